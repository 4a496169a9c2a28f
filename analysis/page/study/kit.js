// What the figures have in common: axes, marks, panels side by side, drawing when scrolled near, and words where there is nothing to draw.
const CONFIG = { displaylogo: false, displayModeBar: false, doubleClick: "reset", responsive: false };
const LOG_STEPS = [[1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9], [1, 1.5, 2, 3, 4, 5, 7], [1, 2, 5], [1, 3], [1]];
const touch = !matchMedia("(hover: hover)").matches;
const figures = [];

/** A log axis over the values with a few whole numbers as ticks (analysis/axes.py, log_axis). */
function logAxis(values, room = 5) {
  const known = values.filter((value) => value > 0);
  let low = Infinity, high = -Infinity;
  for (const value of known) { low = Math.min(low, value); high = Math.max(high, value); }
  if (!known.length) [low, high] = [1, 10];
  if (high / low < 1.05) [low, high] = [low / 1.1, high * 1.1];
  const pad = 0.04 * Math.log10(high / low);
  let ticks = [];
  for (const steps of LOG_STEPS) {
    ticks = [];
    for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++) ticks.push(...steps.map((step) => step * 10 ** decade));
    ticks = ticks.filter((tick) => low <= tick && tick <= high);
    if (ticks.length <= room) break;
  }
  if (ticks.length < 2) ticks = [low, high];
  const skip = Math.ceil(ticks.length / room);
  ticks = ticks.filter((_, i) => i % skip === 0);
  return { type: "log", range: [Math.log10(low) - pad, Math.log10(high) + pad], tickvals: ticks, ticktext: ticks.map(number) };
}

function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en", { maximumFractionDigits: Math.min(digits, 12) }).replaceAll(",", "\u2009").replace("-", "−");
}

function percent(value, sign = true) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value >= 10) return `×${number(value + 1)}`;
  const size = Math.abs(value) * 100, text = size < 9.95 ? size.toFixed(1) : size.toFixed(0);
  return `${!sign || Number(text) === 0 ? "" : value < 0 ? "−" : "+"}${text} %`;
}

function colourOf(sim) { return colour(sim.color); }
function lineOf(sim) { return sim ? { color: colourOf(sim), width: 2, dash: D.tracks[sim.track].dash } : { color: colour("--measured"), width: 3.5 }; }
function markOf(sim) { return sim ? { color: colourOf(sim), size: 7, symbol: D.tracks[sim.track].symbol, line: { color: colourOf(sim), width: 1.5 } } : { color: colour("--measured"), size: 8 }; }
function nameOf(sim) { return sim ? sim.label : "measured"; }

function shortened(text, width) {
  const most = Math.floor(width / 6.9);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** A title on two lines where one is too short: what tells panels apart often comes last. */
function wrapped(text, width) {
  const most = Math.floor(width / 6.9), cut = text.lastIndexOf(" · ", most - 2);
  return text.length <= most || cut < 0 ? shortened(text, width) : `${text.slice(0, cut + 2)}<br>${shortened(text.slice(cut + 3), width)}`;
}

/** Panels in a grid that fits the width. Each: title, traces (without axes), x and y (axis settings), shapes and annotations in its axes. */
async function drawPanels(plot, panels, { minWidth = 260, maxWidth = 640, height = 230, left = 54, firstLeft = left, bottom = 46, top = 30, right = 14, xTitle = "", yTitle = "" } = {}) {
  const width = plot.clientWidth;
  const most = Math.max(1, Math.min(panels.length, Math.floor(width / minWidth)));
  const rows = Math.ceil(panels.length / most), columns = Math.ceil(panels.length / rows), spare = xTitle ? 18 : 0; // the last row has the title
  const wide = Math.min(maxWidth, (width - firstLeft - (columns - 1) * left - columns * right) / columns);
  const more = panels.some((panel) => wrapped(panel.title, wide).includes("<br>")) ? 16 : 0;
  [height, top] = [height + more, top + more];
  const total = rows * (height - spare) + spare;
  const layout = {
    width, height: total, margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--muted") }, hovermode: "closest", dragmode: touch ? false : "zoom", separators: ".\u2009",
    hoverlabel: { bgcolor: colour("--page"), bordercolor: colour("--muted"), font: { color: colour("--text") } }, annotations: [], shapes: [], barmode: "overlay",
  };
  const data = [];
  panels.forEach((panel, i) => {
    const row = Math.floor(i / columns), column = i % columns, id = i ? String(i + 1) : "";
    const x0 = firstLeft + column * (wide + right + left), y1 = total - row * (height - spare) - top, y0 = y1 + top + bottom - height;
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--rule"), zeroline: false, automargin: false, title: { standoff: 6, font: { size: 11.5 } } };
    const last = row === rows - 1;
    layout[`xaxis${id}`] = { ...axis, domain: [x0 / width, (x0 + wide) / width], anchor: `y${id}`, ...panel.x, title: { ...axis.title, text: last ? xTitle : "" } };
    layout[`yaxis${id}`] = { ...axis, domain: [y0 / total, y1 / total], anchor: `x${id}`, ...panel.y, title: { ...axis.title, text: column ? "" : yTitle } };
    if (panel.y && panel.y.onlyFirst && column) layout[`yaxis${id}`].showticklabels = false;
    data.push(...panel.traces.map((trace) => ({ ...trace, xaxis: `x${id}`, yaxis: `y${id}` })));
    const note = panel.note ? ` <span style="color: ${colour("--muted")}">${panel.note}</span>` : "";
    const heading = { text: `<b>${wrapped(panel.title, wide)}</b>${note}`, align: "left", showarrow: false, xref: "paper", yref: "paper", x: x0 / width, xanchor: "left", y: (y1 + 5) / total, yanchor: "bottom" };
    layout.annotations.push({ ...heading, font: { color: colour("--text"), size: 12.5 } });
    (panel.annotations || []).forEach((note) => layout.annotations.push({ showarrow: false, font: { color: colour("--muted"), size: 11 }, ...note, xref: `${note.xref || "x"}${id}${note.xdomain ? " domain" : ""}`, yref: `y${id}${note.ydomain ? " domain" : ""}` }));
    (panel.shapes || []).forEach((shape) => layout.shapes.push({ ...shape, xref: `x${id}${shape.xdomain ? " domain" : ""}`, yref: `y${id}${shape.ydomain ? " domain" : ""}` }));
  });
  plot.style.height = `${total}px`;
  await Plotly.react(plot, data, layout, CONFIG);
}

/** Registers a figure: draw(plot) draws it, or returns the words that say why there is nothing to draw. */
function figure(name, draw) {
  const plot = document.querySelector(`.plot[data-figure="${name}"]`);
  if (!plot) return;
  const one = { name, plot, draw, near: false, stale: true, running: null };
  figures.push(one);
  new IntersectionObserver(([entry]) => { one.near = entry.isIntersecting; if (one.near) render(one); }, { rootMargin: "500px" }).observe(plot);
}

async function render(one) {
  if (!one.stale || one.running) return one.running;
  one.running = (async () => {
    while (one.stale) {
      one.stale = false;
      if (one.plot.dataset.state === "empty") one.plot.replaceChildren();
      const words = await one.draw(one.plot);
      if (typeof words === "string") {
        Plotly.purge(one.plot);
        one.plot.style.height = "";
        one.plot.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: words }));
      }
      one.plot.dataset.state = typeof words === "string" ? "empty" : "drawn";
    }
    one.running = null;
  })();
  return one.running;
}

function redraw(all = false) {
  figures.forEach((one) => { one.stale = true; });
  return Promise.all(figures.filter((one) => all || one.near).map(render));
}
