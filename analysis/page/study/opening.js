// The one figure that the page opens with: the error of each simulator in each latency, the engine's own noise behind it.
const OPENING = ["ttft_p50", "tpot_p50", "e2e_p50"];
const WIDEST = 1, NARROWEST = 0.25; // of the axis to either side: an error beyond it stands at the edge, as a triangle

function drawOpening(plot) {
  const cells = chosenCells().filter((cell) => cell.repeats > 0), metrics = OPENING.map((key) => metricOf[key]);
  const rows = chosenSimulators().map((sim) => ({ sim, errors: metrics.map((metric) => errorsOf(sim, metric, cells)) })).filter(({ errors }) => errors.some((of) => of.length));
  if (!rows.length) return nothing();
  const off = new Map(rows.map((row) => [row, mean(row.errors.filter((of) => of.length).map((of) => median(of.map(({ score }) => distance(score.error)))))]));
  rows.sort((a, b) => off.get(b) - off.get(a)); // the nearest last, which is on top
  const narrow = plot.clientWidth < 600;
  const name = ({ sim, errors }) => { const most = Math.max(...errors.map((of) => of.length)); return most < cells.length ? `${sim.label} ${most}/${cells.length}` : sim.label; };
  const panels = metrics.map((metric, m) => openingPanel(metric, rows.map((row) => ({ sim: row.sim, errors: row.errors[m], name: name(row) })), cells, narrow));
  const label = Math.max(...rows.map((row) => name(row).length));
  return drawPanels(plot, panels, { minWidth: narrow ? 300 : 250, height: 82 + rows.length * (narrow ? 34 : 27), left: 18, firstLeft: narrow ? 112 : 16 + 6.9 * label, bottom: 46, xTitle: "Signed error" });
}

function errorsOf(sim, metric, cells) {
  return cells.map((cell) => ({ cell, score: scoreOf(cell.i, sim.i, metric.i) })).filter(({ score }) => score && score.error !== null);
}

function mean(values) { return values.reduce((sum, value) => sum + value, 0) / values.length; }

function openingPanel(metric, rows, cells, narrow) {
  const sizes = rows.flatMap(({ errors }) => errors.map(({ score }) => Math.abs(score.error))).sort((a, b) => a - b);
  const reach = Math.min(WIDEST, Math.max(NARROWEST, 1.1 * (sizes[Math.floor(0.95 * sizes.length)] ?? 0)));
  const same = cells.filter((cell) => cell.same); // repeats with other requests differ by their requests, too
  const floors = (same.length ? same : cells).map((cell) => D.simulators.map((_, sim) => scoreOf(cell.i, sim, metric.i)).find((score) => score && score.noise !== null)).filter(Boolean).map((score) => score.noise);
  const step = [0.05, 0.1, 0.2, 0.5].find((size) => reach / size <= 2.5) ?? 0.5, ticks = [-2, -1, 0, 1, 2].map((i) => i * step).filter((tick) => Math.abs(tick) <= reach);
  const noise = floors.length ? median(floors) : null;
  const shapes = [{ type: "line", x0: 0, x1: 0, y0: -0.6, y1: rows.length - 0.4, line: { color: colour("--muted"), width: 1 }, layer: "below" }];
  if (noise !== null) shapes.unshift({ type: "rect", x0: -Math.min(noise, reach), x1: Math.min(noise, reach), y0: -0.6, y1: rows.length - 0.4, fillcolor: colour("--band"), line: { width: 0 }, layer: "below" });
  const annotations = rows.flatMap(({ sim, errors }, y) => (errors.length ? [{ text: percent(median(errors.map(({ score }) => score.error))).replace(" %", ""), x: 1, xdomain: true, xanchor: "right", y, font: { color: colour("--text"), size: 11.5 } }] : [{ text: "not to be had", x: 0, y, font: { color: colour("--muted"), size: 11 } }]));
  return {
    title: metric.label, note: noise === null ? "noise unknown" : `noise ±${percent(noise, false)}`, traces: rows.flatMap(({ sim, errors }, y) => openingTraces(metric, sim, errors, y, reach)), shapes, annotations,
    x: { range: [-1.04 * reach, 1.3 * reach], tickvals: ticks, ticktext: ticks.map((tick) => percent(tick).replace(".0", "")), fixedrange: true },
    y: { tickvals: rows.map((_, i) => i), ticktext: rows.map(({ name }) => (narrow ? name.replace(" (", "<br>(") : name)), showgrid: false, range: [-0.6, rows.length - 0.4], fixedrange: true, onlyFirst: true },
  };
}

/** A dot per cell, and a bar at their median. */
function openingTraces(metric, sim, errors, y, reach) {
  const at = (error) => Math.max(-reach, Math.min(reach, error)), beyond = (error) => Math.abs(error) > reach;
  const middle = median(errors.map(({ score }) => score.error));
  const dots = {
    type: "scatter", mode: "markers", x: errors.map(({ score }) => at(score.error)), y: errors.map((_, i) => y + 0.24 * Math.sin(2.4 * i)),
    marker: { color: colourOf(sim), opacity: 0.5, size: 6, symbol: errors.map(({ score }) => (beyond(score.error) ? (score.error < 0 ? "triangle-left" : "triangle-right") : "circle")) },
    customdata: errors.map(({ cell, score }) => `${cellName(cell)}<br>${metric.label} ${percent(score.error)} ${interval(score)}<br>${noiseWords(score)}`), hovertemplate: `${sim.label}<br>%{customdata}<extra></extra>`,
  };
  const bar = { type: "scatter", mode: "lines", x: [at(middle), at(middle)], y: [y - 0.36, y + 0.36], line: { color: colourOf(sim), width: 4 }, hovertemplate: `${sim.label}: median ${percent(middle)} over ${errors.length} cells<extra></extra>` };
  return errors.length ? [dots, bar] : [{ ...dots, hoverinfo: "skip" }];
}
