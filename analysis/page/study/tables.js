// The tables that follow the filters: the scorecard, every cell, rankings, runs.
const GRADES = { trust: "near", care: "off", unproven: "unproven", not: "far" };

function element(tag, { html, text, ...more } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), more);
  if (html !== undefined) made.innerHTML = html;
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function tableInto(place, { kind, caption, heads, body, tall = false }) {
  const row = (cells) => element("tr", {}, ...cells);
  const table = element("table", { className: kind }, element("caption", {}, element("span", { text: caption })), element("thead", {}, row(heads.map((head) => element("th", { scope: "col", text: head })))), element("tbody", {}, ...body));
  const region = element("div", { className: tall ? "scroll tall" : "scroll", tabIndex: 0 }, table);
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", caption);
  document.getElementById(place).replaceChildren(region);
}

/** One simulator's errors of one metric over cells: the same numbers as analysis/study/trust.py gives. null: nothing was scored.
 *  covered: its distance in each cell that it was scored on with all requests. */
function summary(sim, metric, cells) {
  const found = cells.map((cell) => [cell.i, scoreOf(cell.i, sim.i, metric.i)]).filter(([, score]) => score && score.error !== null);
  if (!found.length) return null;
  const scores = found.map(([, score]) => score), lost = (score) => score.failed > D.rules.lost;
  const errors = scores.map((score) => score.error), sizes = errors.map(Math.abs);
  const ends = (score) => [score.error, score.error_low, score.error_high];
  const reach = scores.map((score) => (lost(score) || ends(score).includes(null) ? Infinity : Math.max(...ends(score).map(Math.abs))));
  const multiples = scores.map((score) => score.noise_multiple).filter((value) => value !== null);
  const bound = most(reach), covered = new Map(found.filter(([, score]) => !lost(score)).map(([cell, score]) => [cell, distance(score.error)]));
  const trusted = bound <= D.rules.trust && covered.size >= D.rules.share * cells.length;
  const grade = trusted ? "trust" : bound <= D.rules.care ? "care" : most(sizes) <= D.rules.care ? "unproven" : "not";
  return { cells: scores.length, typical: median(sizes), low: Math.min(...errors), high: Math.max(...errors), bound, grade, covered, multiple: multiples.length ? median(multiples) : null, noisy: multiples.length };
}

/** The least size that most of the cells do not exceed: that of a cell. */
function most(sizes) { return [...sizes].sort((a, b) => a - b)[Math.ceil(D.rules.most * sizes.length) - 1]; }

function distance(error) { return Math.abs(Math.log(Math.max(D.rules.nothing, 1 + error))); }

/** The nearest of summaries (null: nothing was scored) on the cells that all those compared cover; trust.py says who is (in_common). */
function nearestOf(summaries, asked) {
  const compared = summaries.filter(Boolean);
  while (compared.length) {
    const common = [...compared[0].covered.keys()].filter((cell) => compared.every((one) => one.covered.has(cell)));
    if (common.length >= D.rules.share * asked) {
      const off = new Map(compared.map((one) => [one, median(common.map((cell) => one.covered.get(cell)))]));
      return compared.sort((a, b) => off.get(a) - off.get(b) || a.bound - b.bound)[0];
    }
    const least = Math.min(...compared.map((one) => one.covered.size));
    compared.splice(compared.findLastIndex((one) => one.covered.size === least), 1);
  }
  return null;
}

function showScorecard() {
  const sims = chosenSimulators(), cells = chosenCells().filter((cell) => cell.repeats > 0);
  if (!sims.length || !cells.length) {
    document.getElementById("scorecard").replaceChildren(element("p", { className: "empty", text: nothing() }));
    return;
  }
  const all = sims.map((sim) => D.metrics.map((metric, i) => summary(sim, { ...metric, i }, cells)));
  const first = D.metrics.map((_, i) => nearestOf(all.map((row) => row[i]), cells.length));
  const body = [floorRow(cells), ...sims.map((sim, s) => element("tr", {},
    element("th", { scope: "row", html: `${escapeText(sim.name)} <small>${escapeText(sim.track)}</small>` }),
    ...all[s].map((one, i) => scoreCell(one, first[i] === one, cells.length)),
    element("td", { html: `${scored(sim, cells)} of ${cells.length}${lostWords(sim, cells)}` }),
    element("td", { text: sim.speed === null ? "–" : `${number(sim.speed)} ×` }),
    ...lacks(sims, s)))];
  tableInto("scorecard", {
    kind: "scorecard", body, heads: ["Simulator", ...D.metrics.map((metric) => metric.label), "Cells scored", "Speed, × real time", "Not modelled"],
    caption: `Typical error (median of |error| over ${cells.length} cells), under it the range of signed errors, and the typical error in multiples of the noise floor. ◆ nearest in its column.`,
  });
}

function scored(sim, cells) {
  return cells.filter((cell) => D.metrics.some((_, i) => { const score = scoreOf(cell.i, sim.i, i); return score && score.error !== null; })).length;
}

/** In how many cells it refused or lost requests, and how many of them at most. */
function lostWords(sim, cells) {
  const shares = cells.map((cell) => Math.max(...D.metrics.map((_, i) => { const score = scoreOf(cell.i, sim.i, i); return score ? score.failed : 0; }))).filter((share) => share > D.rules.lost);
  return shares.length ? `<small>up to ${percent(Math.max(...shares), false)} of requests lost in ${shares.length}</small>` : "";
}

/** What a simulator does not model, once for its tracks that say the same. */
function lacks(sims, s) {
  const same = (one) => one && one.system === sims[s].system && one.lacks === sims[s].lacks;
  if (same(sims[s - 1])) return [];
  let rows = 1;
  while (same(sims[s + rows])) rows++;
  return [element("td", { className: "words", rowSpan: rows, text: sims[s].lacks })];
}

function scoreCell(one, best, asked) {
  if (!one) return element("td", { html: "<strong>–</strong><small>nothing to compare</small>" });
  const noise = one.multiple === null ? "noise unknown" : `${one.multiple.toFixed(1)} × noise`;
  const range = one.cells > 1 ? `${percent(one.low)} … ${percent(one.high)}`.replaceAll(" %", "") : percent(one.low);
  const few = one.cells < asked ? `<small>${one.cells} of ${asked} cells</small>` : "";
  return element("td", { className: `${GRADES[one.grade]}${best ? " best" : ""}`, html: `<strong>${percent(one.typical, false)}</strong><small>${range}</small><small>${noise}</small>${few}` });
}

function floorRow(cells) {
  const values = D.metrics.map((_, i) => {
    const noises = cells.map((cell) => D.simulators.map((_, sim) => scoreOf(cell.i, sim, i)).find((score) => score && score.noise !== null)).filter(Boolean).map((score) => score.noise);
    return noises.length ? `<strong>${percent(median(noises), false)}</strong><small>${noises.length} cell${noises.length > 1 ? "s" : ""}</small>` : "<strong>–</strong><small>no repeats: unknown</small>";
  });
  return element("tr", { className: "floor" }, element("th", { scope: "row", html: "Noise floor <small>measured against itself</small>" }), ...values.map((html) => element("td", { html })), element("td"), element("td"), element("td"));
}

function escapeText(text) { return element("span", { text: String(text) }).innerHTML; }

function showCells() {
  const sims = chosenSimulators(), metric = metricOf[state.metric];
  const body = chosenCells().map((cell) => element("tr", {},
    element("th", { scope: "row", text: cellName(cell) }),
    element("td", { text: shown(metric, (sims.map((sim) => scoreOf(cell.i, sim.i, metric.i)).find(Boolean) || { measured: null }).measured) }),
    ...sims.map((sim) => {
      const score = cell.repeats ? scoreOf(cell.i, sim.i, metric.i) : null;
      return element("td", { text: score && score.error !== null ? `${percent(score.error)} ${interval(score)}` : cell.repeats ? "–" : "INVALID" });
    })));
  tableInto("cells-table", { kind: "plain", tall: true, body, heads: ["Cell", "Measured", ...sims.map((sim) => sim.label)], caption: `${metric.label}: signed error of every cell, with its interval.` });
}

/** A ranking says in `setting` what its cells have in common, as 'workload=..., rate=...'; what they are compared in is not among it. */
function rankingPasses(row) {
  const sim = D.simulators[row.sim], common = Object.fromEntries(row.setting.split(", ").map((part) => part.split("=")));
  return passes("study", studyOf(row)) && passes("track", sim.track) && passes("simulator", sim.system) && ["engine", "workload"].every((group) => !(group in common) || passes(group, common[group]));
}

function showRankings() {
  const rows = D.rankings.filter(rankingPasses);
  if (!rows.length) {
    document.getElementById("rankings-table").replaceChildren(element("p", { className: "empty", text: D.rankings.length ? nothing() : "No two cells differ in their configuration alone, so there is nothing to choose between." }));
    return;
  }
  const body = rows.map((row) => element("tr", {},
    element("th", { scope: "row", text: D.simulators[row.sim].label }),
    ...[row.axis.replaceAll("_", " "), row.setting.replaceAll("=", " ").replaceAll("_", " "), [row.metric, row.stat].filter(Boolean).join(" ").replaceAll("_", " "), row.measured_best, row.simulated_best].map((text) => element("td", { className: "words", text: text ?? "–" })),
    element("td", { text: row.kendall_tau === null ? "–" : number(row.kendall_tau) }), element("td", { className: row.regret === null ? "" : row.regret <= 0.02 ? "near" : row.regret <= 0.1 ? "off" : "far", text: percent(row.regret, false) })));
  tableInto("rankings-table", { kind: "plain", tall: rows.length > 12, body, heads: ["Simulator", "Choice of", "Among", "By", "Best as measured", "Simulator's choice", "Kendall's τ", "Regret"], caption: "Regret: how much worse the simulator's choice measures than the best one. Kendall's τ: 1 the same order, −1 the reverse." });
}

function showRuns() {
  const cells = new Set(chosenCells().map((cell) => cell.i)), sims = new Set(chosenSimulators().map((sim) => sim.i));
  const onlyInvalid = document.getElementById("only-invalid").checked;
  const runs = D.runs.filter((run) => cells.has(run.cell) && (run.sim === -1 || sims.has(run.sim)) && (!onlyInvalid || run.reason !== null || run.ok === false));
  if (!runs.length) {
    document.getElementById("runs-table").replaceChildren(element("p", { className: "empty", text: onlyInvalid ? "No run under these filters is INVALID or breaks Little's law." : nothing() }));
    return;
  }
  const body = runs.map((run) => {
    const cell = D.cells[run.cell], sim = run.sim === -1 ? null : D.simulators[run.sim];
    const facts = element("details", {}, element("summary", { text: "show" }));
    facts.addEventListener("toggle", () => { if (facts.open && facts.children.length === 1) facts.append(element("div", {}, factList(run))); });
    return element("tr", { className: sim ? "simulated" : "measured" },
      element("th", { scope: "row" }, element("a", { href: `${encodeURI(run.link)}/`, text: sim ? sim.label : `${cell.engine} measured` })),
      element("td", { text: cellName(cell) }), element("td", { className: "number", text: run.repeat }),
      element("td", { className: "reason", html: run.reason === null ? "valid" : `<span class="invalid-mark">INVALID</span> ${escapeText(run.reason)}` }),
      element("td", { text: run.ok === null ? "–" : run.ok ? `holds (${number(run.ratio)})` : `✗ off (${number(run.ratio)})` }),
      element("td", { text: run.version ?? "–" }), element("td", { text: run.started }), element("td", { className: "number", text: number(run.wall) }), element("td", {}, facts));
  });
  tableInto("runs-table", { kind: "runs", tall: true, body, heads: ["Run (its folder)", "Cell", "Repeat", "Validity", "Little's law (in system, seen / expected)", "Version", "Started (UTC)", "Wall time (s)", "Configuration, provenance"], caption: `${runs.length} runs. A measured run that fails a gate is INVALID and in no score.` });
}

function factList(run) {
  return element("dl", {}, element("dt", { text: "run" }), element("dd", { text: run.id }), ...run.facts.flatMap((i) => [element("dt", { text: D.facts[i][0] }), element("dd", { text: D.facts[i][1] })]));
}
