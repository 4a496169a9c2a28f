// The figures over all chosen cells: heat map, knees, goodput. A panel per scenario: what is measured, but for the load.
const HEAT = Math.log(2); // twice or half is as deep as the colour gets

function scenarioOf(cell) { return cell.scenario; }

function scenarios() {
  const found = new Map();
  for (const cell of chosenCells()) found.set(scenarioOf(cell), [...(found.get(scenarioOf(cell)) || []), cell]);
  for (const cells of found.values()) cells.sort((a, b) => (a.concurrency ?? 0) - (b.concurrency ?? 0)); // the rest is in order already
  return found;
}

const scoreOf = (() => {
  const found = new Map();
  D.scores.cell.forEach((cell, i) => found.set(`${cell} ${D.scores.sim[i]} ${D.scores.metric[i]}`, i));
  return (cell, sim, metric) => {
    const i = found.get(`${cell} ${sim} ${metric}`);
    return i === undefined ? null : Object.fromEntries(["measured", "simulated", "error", "error_low", "error_high", "noise", "noise_multiple", "failed"].map((name) => [name, D.scores[name][i]]));
  };
})();

function loadTick(cell) { return `${loadOf(cell).replace(" req/s", "/s").replace(" in flight", "")}${cell.saturated ? " ▲" : ""}`; }

function drawHeat(plot) {
  const sims = chosenSimulators().reverse(), metric = metricOf[state.metric];
  if (!sims.length) return nothing();
  const page = colour("--page"), scale = [[0, colour("--low")], [0.5, page], [1, colour("--high")]];
  const narrow = plot.clientWidth < 600;
  const panels = [...scenarios()].map(([title, cells]) => {
    const at = (sim, cell) => (cell.repeats ? scoreOf(cell.i, sim.i, metric.i) : null);
    const rows = (value) => sims.map((sim) => cells.map((cell) => value(at(sim, cell), cell, sim)));
    const known = (score) => score && score.error !== null;
    const trace = {
      type: "heatmap", x: cells.map((_, i) => i), y: sims.map((_, i) => i), xgap: 1.5, ygap: 1.5, showscale: false, zmin: -HEAT, zmax: HEAT, colorscale: scale,
      z: rows((score) => (known(score) ? Math.sign(score.error) * HEAT * depth(score.error) : null)),
      customdata: rows((score, cell, sim) => (known(score) ? `${sim.label}, ${loadWords(cell)}<br>${metric.label} ${percent(score.error)} ${interval(score)}<br>${shown(metric, score.measured)} measured, ${shown(metric, score.simulated)} simulated<br>${noiseWords(score)}${score.failed > 0 ? `<br>${percent(score.failed, false)} of the requests refused or lost` : ""}` : `${sim.label}: ${whyMissing(cell)}`)),
      hovertemplate: "%{customdata}<extra></extra>", hoverongaps: true,
    };
    const places = cells.flatMap((cell, x) => sims.map((sim, y) => ({ x, y, score: at(sim, cell) }))).filter(({ score }) => known(score));
    const words = {
      type: "scatter", mode: "text", hoverinfo: "skip", x: places.map(({ x }) => x), y: places.map(({ y }) => y), text: places.map(({ score }) => percent(score.error).replace(" %", "")),
      textfont: { size: 11, color: places.map(({ score }) => inkOn(mix(page, scale[score.error < 0 ? 0 : 2][1], depth(score.error)))) },
    };
    const missing = cells.flatMap((cell, x) => sims.map((sim, y) => (known(at(sim, cell)) ? null : { x, y, text: cell.repeats ? "·" : "×", font: { color: colour("--alarm"), size: 13 } })).filter(Boolean));
    return {
      title, traces: [trace, words], annotations: missing,
      x: { tickvals: cells.map((_, i) => i), ticktext: cells.map(loadTick), showgrid: false, range: [-0.5, cells.length - 0.5], fixedrange: true },
      y: { tickvals: sims.map((_, i) => i), ticktext: sims.map((sim) => (narrow ? sim.label.replace(" (", "<br>(") : sim.label)), showgrid: false, range: [-0.5, sims.length - 0.5], fixedrange: true, onlyFirst: true },
      cells,
    };
  });
  if (!panels.length) return nothing();
  plot.cellAt = (point) => panels[point.curveNumber / 2].cells[point.x];
  return drawPanels(plot, panels, { minWidth: narrow ? 300 : 330, height: 78 + sims.length * (narrow ? 32 : 25), left: 14, firstLeft: narrow ? 112 : 16 + 6.9 * Math.max(...sims.map((sim) => sim.label.length)), bottom: 44, xTitle: heatAxis(narrow) });
}

function heatAxis(narrow) {
  if (!chosenCells().some((cell) => cell.rho !== null)) return "Load: requests per second, or in flight (▲ saturated)";
  return narrow ? "Load ρ (▲ saturated)" : "Load ρ: offered over measured capacity (▲ saturated)";
}

/** How deep an error colours, 0 to 1: the same for half and for twice. */
function depth(error) { return Math.min(1, Math.abs(Math.log(Math.max(1e-3, 1 + error))) / HEAT); }

function channels(text) { return text.match(/[\d.]+/g).slice(0, 3).map(Number); }

function mix(from, to, share) { return channels(from).map((value, i) => value + share * (channels(to)[i] - value)); }

/** Black or white, whichever is read better on a colour: by WCAG's relative luminance. */
function inkOn(rgb) {
  const luminance = rgb.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)).reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  return luminance > 0.179 ? "#000" : "#fff";
}

function interval(score) { return score.error_low === null || score.error_high === null ? "" : `[${percent(score.error_low)}, ${percent(score.error_high)}]`.replaceAll(" %", ""); }
function shown(metric, value) { return value === null ? "–" : `${number(value * metric.scale)} ${metric.unit}`; }
function noiseWords(score) { return score.noise_multiple !== null ? `${score.noise_multiple.toFixed(1)} × the noise floor of ${percent(score.noise, false)}` : "no repeats: noise floor unknown"; }
function whyMissing(cell) { return cell.repeats ? "no value to compare" : `INVALID: ${cell.invalid} of ${cell.invalid} runs`; }
function nothing() { return "Nothing to show: the filters leave no cell or no simulator. Press Reset in the filter bar."; }

/** Rows of the view `knees` for cells, one system (null: measured), in order of load. */
const kneeAt = (() => {
  const found = new Map();
  D.knees.cell.forEach((cell, i) => found.set(`${cell} ${D.knees.sim[i]}`, i));
  return (cells, sim) => cells.flatMap((cell) => { const i = found.get(`${cell.i} ${sim ? sim.i : -1}`); return i === undefined ? [] : [{ i, cell }]; });
})();

function curve(cells, sim, xName, yName, hover) {
  const points = kneeAt(cells, sim).sort((a, b) => D.knees.offered_rate[a.i] - D.knees.offered_rate[b.i]);
  const mark = markOf(sim);
  return {
    type: "scatter", mode: "lines+markers", name: nameOf(sim), x: points.map(({ i }) => D.knees[xName][i]), y: points.map(({ i }) => D.knees[yName][i]), line: lineOf(sim), marker: { ...mark, size: sim ? 6 : 8 },
    customdata: points.map(({ i, cell }) => `${loadWords(cell)}${D.knees.saturated[i] ? ", saturated" : D.knees.saturated[i] === false ? ", not saturated" : ""}`), hovertemplate: `${nameOf(sim)}, %{customdata}<br>${hover}<extra></extra>`,
  };
}

function curves(xName, yName, hover, dress) {
  const sims = chosenSimulators();
  return [...scenarios()].map(([title, cells]) => {
    const traces = [...sims.map((sim) => curve(cells, sim, xName, yName, hover)), curve(cells, null, xName, yName, hover)].filter((trace) => trace.x.some((x, i) => x !== null && trace.y[i] !== null));
    return { title, traces, ...dress(traces, cells) };
  }).filter((panel) => panel.traces.length);
}

function drawKnees(plot) {
  const column = `${state.latency}_p50`, label = metricOf[column].label;
  const panels = curves("output_throughput", column, `%{x:.4~g} tokens/s, ${label} %{y:.4~g} ms`, (traces) => ({
    x: { rangemode: "tozero", nticks: 5 }, y: logAxis(traces.flatMap((trace) => trace.y)), annotations: directLabel(traces),
  }));
  if (!panels.length) return nothing();
  return drawPanels(plot, panels, { minWidth: 300, height: 290, xTitle: "Output throughput (tokens/s)", yTitle: `${label} (ms)` });
}

/** The measured line says so itself. */
function directLabel(traces) {
  const measured = traces.find((trace) => trace.name === "measured");
  if (!measured) return [];
  const last = measured.x.length - 1, log = (value) => Math.log10(value);
  return measured.y[last] > 0 ? [{ text: "<b>measured</b>", x: measured.x[last], y: log(measured.y[last]), xanchor: "right", yanchor: "bottom", yshift: 5, xshift: -4, font: { color: colour("--measured"), size: 11 } }] : [];
}

function drawGoodput(plot) {
  const panels = curves("offered_rate", "goodput", "%{x:.3~g} req/s offered, goodput %{y:.3~g} req/s", (traces) => {
    const reach = Math.max(...traces.flatMap((trace) => [...trace.x, ...trace.y])) * 1.05;
    return {
      x: { range: [0, reach], nticks: 6 }, y: { range: [0, reach], nticks: 6 },
      shapes: [{ type: "line", x0: 0, y0: 0, x1: reach, y1: reach, line: { color: colour("--muted"), width: 1, dash: "dot" }, layer: "below" }],
    };
  });
  if (!panels.length) return nothing();
  return drawPanels(plot, panels, { minWidth: 300, height: 290, xTitle: "Offered rate (req/s)", yTitle: "Goodput (req/s)" });
}
