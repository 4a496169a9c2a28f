// The figures of one scenario or one cell: distributions as load rises, requests one by one, why a simulator errs, a saturated stretch.
const PHASES = [["queued", "queued", "--queued"], ["prefill", "prefill", "--prefill"], ["waiting", "queued or prefill", "--prefill"], ["decode", "decode", "--decode"]];

function cellName(cell) { return `${cell.scenario}, ${loadWords(cell)}`; }

function simsOf(rows, cell) { return chosenSimulators().map((sim) => [sim, rows.find((row) => row.cell === cell.i && row.sim === sim.i)]).filter(([, row]) => row); }

function drawCdf(metric) {
  return (plot) => {
    const here = focus();
    if (!here) return noCell();
    const cells = chosenCells().filter((cell) => cell.scenario === here.scenario && cell.repeats > 0);
    const levels = (n) => Array.from({ length: n }, (_, i) => (n > 1 ? (100 * i) / (n - 1) : 100));
    const line = (row, sim) => ({ type: "scatter", mode: "lines", name: nameOf(sim), x: row[metric], y: levels(row[metric].length), line: lineOf(sim), hovertemplate: `${nameOf(sim)}: %{y:.0f} % within %{x:.3~g} ms<extra></extra>` });
    const panels = cells.map((cell) => {
      const measured = D.cdf.find((row) => row.cell === cell.i && row.sim === -1);
      const traces = [...simsOf(D.cdf, cell).filter(([, row]) => row[metric]).map(([sim, row]) => line(row, sim)), ...(measured && measured[metric] ? [line(measured, null)] : [])];
      return { title: `${loadWords(cell)}${cell.saturated ? " ▲ saturated" : ""}`, traces };
    }).filter((panel) => panel.traces.length);
    if (!panels.length) return `No request of ${here.scenario} has a ${metric.toUpperCase()} to show.`;
    const axis = logAxis(panels.flatMap((panel) => panel.traces.flatMap((trace) => trace.x)), 4);
    panels.forEach((panel) => Object.assign(panel, { x: axis, y: { range: [0, 101], ticksuffix: " %", nticks: 5 } }));
    return drawPanels(plot, panels, { minWidth: 230, height: 250, left: 56, xTitle: `${metric.toUpperCase()} (ms)`, yTitle: "Requests" });
  };
}

function drawParity(plot) {
  const here = focus();
  if (!here) return noCell();
  const metric = state.latency, label = metric.toUpperCase();
  const cloud = D.parity.find((one) => one.cell === here.i) || { simulated: [] };
  const panels = chosenSimulators().flatMap((sim) => cloud.simulated.filter((row) => row.sim === sim.i).map((row) => [sim, row])).map(([sim, row]) => {
    const pairs = cloud.measured[metric].map((value, i) => [value, row[metric][i], cloud.request[i]]).filter(([a, b]) => a > 0 && b > 0);
    return { sim, pairs };
  }).filter(({ pairs }) => pairs.length);
  if (!panels.length) return `No simulator gives ${label} per request for ${cellName(here)} under these filters.`;
  const axis = logAxis(panels.flatMap(({ pairs }) => pairs.flatMap(([a, b]) => [a, b])), 4);
  const [low, high] = axis.range.map((end) => 10 ** end);
  return drawPanels(plot, panels.map(({ sim, pairs }) => ({
    title: sim.label, note: `off ${percent(median(pairs.map(([a, b]) => Math.abs(b / a - 1))), false)}`, x: axis, y: axis,
    traces: [
      { type: "scatter", mode: "lines", x: [low, high], y: [low, high], line: { color: colour("--measured"), width: 1.2 }, hoverinfo: "skip" },
      { type: "scatter", mode: "markers", name: sim.label, x: pairs.map(([a]) => a), y: pairs.map(([, b]) => b), customdata: pairs.map(([, , id]) => id), marker: { ...markOf(sim), size: 5.5, opacity: 0.55 }, hovertemplate: "request %{customdata}: measured %{x:.3~g} ms, simulated %{y:.3~g} ms<extra></extra>" },
    ],
  })), { minWidth: 290, height: 285, left: 50, xTitle: `Measured ${label} (ms)`, yTitle: `Simulated ${label} (ms)` });
}

function median(values) {
  return quantile(values, 0.5);
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b), at = (sorted.length - 1) * share, below = Math.floor(at);
  return sorted.length ? sorted[below] + (at - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]) : null;
}

function drawWaterfall(plot) {
  const here = focus();
  if (!here) return noCell();
  const metric = state.latency, label = metric.toUpperCase();
  const rows = simsOf(D.waterfall.filter((row) => row.metric === metric), here);
  if (!rows.length) return `No attribution of ${label} for ${cellName(here)} under these filters: it needs a simulator's own step log or an oracle run, in the track that it starts from.`;
  const panels = rows.map(([sim, row]) => {
    const parts = [["simulated", row.simulated], ...row.parts.map(([part, value]) => [part.replaceAll("_", " "), value]), ["measured", row.measured]];
    const last = parts.length - 1, low = colour("--low"), high = colour("--high");
    let sum = 0;
    const labels = parts.map(([part, value], i) => {
      const before = i === last ? 0 : sum, after = i === last ? value : sum + value;
      sum = after;
      return { text: i === 0 || i === last || value < 0 ? number(value) : `+${number(value)}`, x: Math.max(before, after), y: part, xanchor: "left", xshift: 3 };
    });
    return {
      title: sim.label, annotations: labels, x: { nticks: 5, rangemode: "tozero", tickformat: "," }, y: { showgrid: false, autorange: "reversed" },
      traces: [{
        type: "waterfall", orientation: "h", y: parts.map(([part]) => part), x: parts.map(([, value], i) => (i === last ? null : value)), measure: parts.map((_, i) => (i === 0 ? "absolute" : i === last ? "total" : "relative")),
        connector: { line: { color: colour("--muted"), width: 1, dash: "dot" } }, increasing: { marker: { color: high } }, decreasing: { marker: { color: low } }, totals: { marker: { color: colour("--muted") } },
        customdata: labels.map(({ text }) => text), hovertemplate: "%{y}: %{customdata} ms<extra></extra>",
      }],
    };
  });
  return drawPanels(plot, panels, { minWidth: 330, height: 270, left: 92, right: 44, xTitle: `Mean ${label} (ms)` });
}

function drawGantt(plot) {
  const here = focus();
  const stretch = here && D.gantt.find((one) => one.cell === here.i);
  if (!here || !stretch) return noCell();
  const runs = stretch.runs.filter((run) => run.sim === -1 || passes("track", D.simulators[run.sim].track) && passes("simulator", D.simulators[run.sim].system));
  const measured = runs.find((run) => run.sim === -1);
  const start = Math.min(...measured.arrival), ends = (run) => Math.max(...run.finished.filter((value) => value !== null)) - start;
  const reach = Math.min(2 * ends(measured), Math.max(...runs.map(ends)));
  const panels = runs.sort((a, b) => a.sim - b.sim).map((run) => {
    const sim = run.sim === -1 ? null : D.simulators[run.sim];
    const bars = { queued: [], prefill: [], waiting: [], decode: [] };
    run.arrival.forEach((arrival, y) => {
      if (run.finished[y] === null) return;
      const [from, scheduled, first, end] = [arrival, run.scheduled[y], run.first_token[y], run.finished[y]].map((time) => (time === null ? null : time - start));
      if (scheduled !== null) bars.queued.push([y, from, scheduled]);
      if (scheduled !== null && first !== null) bars.prefill.push([y, scheduled, first]);
      if (scheduled === null && first !== null) bars.waiting.push([y, from, first]);
      if (first !== null) bars.decode.push([y, first, end]);
    });
    const traces = PHASES.filter(([key]) => bars[key].length).map(([key, name, ink]) => ({
      type: "bar", orientation: "h", name, y: bars[key].map(([y]) => y), base: bars[key].map(([, from]) => from), x: bars[key].map(([, from, to]) => to - from), customdata: bars[key].map(([y]) => stretch.request[y]), width: 0.8,
      marker: { color: colour(ink), ...(key === "waiting" ? { pattern: { shape: "/", bgcolor: colour("--queued"), fgcolor: colour("--prefill"), fillmode: "overlay", size: 5 } } : {}) },
      hovertemplate: `request %{customdata}: ${name} for %{x:.3~g} s<extra></extra>`,
    }));
    const over = ends(run) > reach * 1.001 ? [{ text: `goes on until ${number(ends(run))} s`, x: 1, y: 1.01, xdomain: true, ydomain: true, xanchor: "right", yanchor: "bottom" }] : [];
    return { title: sim ? sim.label : "Measured", traces, x: { range: [0, reach * 1.01], nticks: 6 }, y: { range: [stretch.request.length - 0.3, -0.7], showticklabels: false, showgrid: false }, annotations: over };
  });
  return drawPanels(plot, panels, { minWidth: 300, height: 240, left: 30, xTitle: "Time since the stretch's first arrival (s)", yTitle: "Requests, in order of arrival" });
}

function noCell() { return "No measured cell passes the filters. Press Reset in the filter bar."; }

function syncCell() {
  const here = focus();
  const cells = chosenCells().filter((cell) => cell.repeats > 0);
  document.querySelectorAll("select[data-choose='cell']").forEach((select) => {
    select.replaceChildren(...cells.map((cell) => new Option(`${cellName(cell)}${cell.saturated ? " ▲" : ""}`, cell.cell, false, here && cell.cell === here.cell)));
    select.disabled = !cells.length;
  });
  document.querySelectorAll(".cell-name").forEach((place) => { place.textContent = here ? cellName(here) : "no cell"; });
  document.querySelectorAll(".scenario-name").forEach((place) => { place.textContent = here ? here.scenario : "no cell"; });
}
