"use strict";
// Draws the figures from the JSON blocks of this page, in its own colours, and lets the key show and hide runs in all of them.
const plots = [...document.querySelectorAll(".plot")];
const touch = !matchMedia("(hover: hover)").matches;

function colours(layout) {
  const [text, muted, grid, page] = ["--text", "--muted", "--grid", "--page"].map(colour);
  const update = { "font.color": muted, "hoverlabel.bgcolor": page, "hoverlabel.font.color": text };
  for (const axis of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
    update[`${axis}.gridcolor`] = grid;
  }
  (layout.annotations || []).forEach((_, i) => { update[`annotations[${i}].font.color`] = text; });
  return update;
}

async function draw(plot) {
  const { data, layout } = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  const config = { responsive: true, displaylogo: false, displayModeBar: false, doubleClick: "reset" };
  await Plotly.newPlot(plot, data, { ...layout, dragmode: touch ? false : "zoom" }, config);
  await Plotly.relayout(plot, colours(layout));
}

function recolour() {
  plots.forEach((plot) => Plotly.relayout(plot, colours(plot.layout)));
}

function toggle(name, shown) {
  document.querySelectorAll(".key button").forEach((button) => {
    if (button.dataset.series === name) button.setAttribute("aria-pressed", String(shown));
  });
  plots.forEach((plot) => {
    const traces = plot.data.flatMap((trace, i) => (trace.legendgroup === name ? [i] : []));
    if (traces.length) Plotly.restyle(plot, { visible: shown }, traces);
  });
}

document.querySelectorAll(".key button").forEach((button) => {
  button.addEventListener("click", () => toggle(button.dataset.series, button.getAttribute("aria-pressed") === "false"));
});
document.addEventListener("themechange", recolour);
matchMedia("print").addEventListener("change", recolour);
Promise.all(plots.map(draw)).then(() => { document.documentElement.dataset.drawn = String(plots.length); });
