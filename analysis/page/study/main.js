// Puts it together: figures and tables are registered once, and shown again whenever the filters, the theme or the width change.
const lazyTables = [];

/** A table that is made when it comes near, and again after a change once it is near again. */
function lazyTable(place, make) {
  const one = { near: false, stale: true, make };
  const update = () => { if (one.near && one.stale) { one.stale = false; make(); } };
  new IntersectionObserver(([entry]) => { one.near = entry.isIntersecting; update(); }, { rootMargin: "500px" }).observe(document.getElementById(place));
  lazyTables.push(() => { one.stale = true; update(); });
}

buildFilters();
readFragment();
figure("heat", drawHeat);
figure("knees", drawKnees);
figure("goodput", drawGoodput);
figure("cdf-ttft", drawCdf("ttft"));
figure("cdf-tpot", drawCdf("tpot"));
figure("parity", drawParity);
figure("waterfall", drawWaterfall);
figure("gantt", drawGantt);
lazyTable("scorecard", showScorecard);
lazyTable("cells-table", showCells);
lazyTable("rankings-table", showRankings);
lazyTable("runs-table", showRuns);

function syncChoices() {
  document.querySelectorAll("select[data-choose='metric']").forEach((select) => { select.value = state.metric; });
  document.querySelectorAll("select[data-choose='latency']").forEach((select) => { select.value = state.latency; });
}

listeners.push(syncFilters, syncChoices, syncCell, () => redraw(), () => lazyTables.forEach((update) => update()));

document.querySelectorAll("select[data-choose]").forEach((select) => {
  if (select.dataset.choose === "metric") select.replaceChildren(...D.metrics.map((metric) => new Option(metric.label, metric.key)));
  if (select.dataset.choose === "latency") select.replaceChildren(...D.latencies.map((name) => new Option(name.toUpperCase(), name)));
  select.addEventListener("change", () => change({ [select.dataset.choose]: select.value }));
});
document.getElementById("only-invalid").addEventListener("change", showRuns);
document.querySelectorAll("a[href^='#']").forEach((link) => link.addEventListener("click", (event) => {
  event.preventDefault(); // the fragment holds the filters
  const target = document.querySelector(link.getAttribute("href"));
  target.scrollIntoView();
  target.setAttribute("tabindex", "-1");
  target.focus({ preventScroll: true });
}));

// Plotly's own events come from the figure's element once it is drawn.
new MutationObserver(([{ target }]) => {
  if (target.dataset.state !== "drawn" || target.dataset.listens) return;
  target.dataset.listens = "yes";
  target.on("plotly_click", ({ points }) => change({ cell: target.cellAt(points[0]).cell }));
}).observe(document.querySelector(".plot[data-figure='heat']"), { attributeFilter: ["data-state"] });

addEventListener("hashchange", () => { if (location.hash.includes("=") || location.hash.length < 2) { readFragment(); show(); } });
document.addEventListener("themechange", () => redraw());
let settled = null, width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's address bar changes the height only
  width = innerWidth;
  clearTimeout(settled);
  settled = setTimeout(() => redraw(), 150);
});
addEventListener("beforeprint", () => { lazyTables.forEach((update) => update()); redraw(true); });
if (matchMedia("(max-width: 52rem)").matches) document.querySelector("#filters details").open = false;
show();
document.documentElement.dataset.ready = "yes";
