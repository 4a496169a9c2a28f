// The table along an axis: GPU, model, engine version, loop or workload against the simulators.
function showAxis() {
  const sims = chosenSimulators(), cells = chosenCells().filter((cell) => cell.repeats > 0), metric = metricOf[state.metric], axis = AXES[state.axis];
  if (!sims.length || !cells.length) {
    document.getElementById("axis-table").replaceChildren(element("p", { className: "empty", text: nothing() }));
    return;
  }
  const body = distinct(cells, axis.of).map((value) => {
    const mine = cells.filter((cell) => axis.of(cell) === value);
    const repeated = mine.map((cell) => D.simulators.map((_, sim) => scoreOf(cell.i, sim, metric.i)).find((score) => score && score.noise !== null)).filter(Boolean);
    return element("tr", {}, element("th", { scope: "row", html: `${escapeText(value)} <small>${mine.length} cell${mine.length > 1 ? "s" : ""}</small>` }),
      element("td", { html: repeated.length ? `${percent(median(repeated.map((score) => score.noise)), false)}` : "unknown" }),
      ...sims.map((sim) => axisCell(mine.map((cell) => scoreOf(cell.i, sim.i, metric.i)).filter((score) => score && score.error !== null), mine.length)));
  });
  tableInto("axis-table", { kind: "scorecard along", body, heads: [axis.label, "Noise floor", ...sims.map((sim) => sim.label)], caption: `${metric.label}: median signed error.` });
}

function axisCell(scores, asked) {
  if (!scores.length) return element("td", { html: "<strong>–</strong><small>none</small>" });
  const middle = median(scores.map((score) => score.error)), size = Math.abs(middle);
  const grade = size <= D.rules.trust ? "near" : size <= D.rules.care ? "off" : "far";
  return element("td", { className: grade, html: `<strong>${percent(middle)}</strong><small>${scores.length} of ${asked}</small>` });
}
