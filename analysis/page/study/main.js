// Puts it together: figures and tables are registered once, and shown again whenever the filters, the theme or the width change.
const lazyTables = [];

/** A table that is made when it comes near, and again after a change once it is near again. */
function lazyTable(place, make) {
  const one = { element: document.getElementById(place), near: false, stale: true };
  one.update = (anyway = false) => { if (one.stale && (one.near || anyway)) { one.stale = false; make(); } };
  new IntersectionObserver(([entry]) => { one.near = entry.isIntersecting; one.update(); }, { rootMargin: "500px" }).observe(one.element);
  lazyTables.push(one);
}

function updateTables(anyway = false) {
  lazyTables.forEach((one) => { one.stale = true; one.update(anyway); });
}

/** What lies above the target is made first: made later, it would push the target away. */
async function goTo(target) {
  const above = (element) => element.compareDocumentPosition(target) & Node.DOCUMENT_POSITION_FOLLOWING;
  lazyTables.filter((one) => above(one.element)).forEach((one) => one.update(true));
  await Promise.all(figures.filter((one) => above(one.plot)).map(render));
  target.scrollIntoView();
  target.setAttribute("tabindex", "-1");
  target.focus({ preventScroll: true });
}

buildFilters();
readFragment();
figure("opening", drawOpening);
figure("heat", drawHeat);
figure("knees", drawKnees);
figure("goodput", drawGoodput);
figure("cdf-ttft", drawCdf("ttft"));
figure("cdf-tpot", drawCdf("tpot"));
figure("parity", drawParity);
figure("waterfall", drawWaterfall);
figure("gantt", drawGantt);
lazyTable("scorecard", showScorecard);
lazyTable("axis-table", showAxis);
lazyTable("cells-table", showCells);
lazyTable("rankings-table", showRankings);
lazyTable("runs-table", showRuns);

function syncChoices() {
  document.querySelectorAll("select[data-choose='metric']").forEach((select) => { select.value = state.metric; });
  document.querySelectorAll("select[data-choose='axis']").forEach((select) => { select.value = state.axis; });
  document.querySelectorAll("select[data-choose='latency']").forEach((select) => { select.value = state.latency; });
}

listeners.push(syncFilters, syncChoices, syncCell, () => redraw(), () => updateTables());

document.querySelectorAll("select[data-choose]").forEach((select) => {
  if (select.dataset.choose === "metric") select.replaceChildren(...D.metrics.map((metric) => new Option(metric.label, metric.key)));
  if (select.dataset.choose === "axis") select.replaceChildren(...axisNames.map((name) => new Option(AXES[name].label, name)));
  if (select.dataset.choose === "latency") select.replaceChildren(...D.latencies.map((name) => new Option(name.toUpperCase(), name)));
  select.addEventListener("change", () => change({ [select.dataset.choose]: select.value }));
});
document.getElementById("only-invalid").addEventListener("change", showRuns);
document.querySelectorAll("a[href^='#']").forEach((link) => link.addEventListener("click", (event) => {
  event.preventDefault(); // the fragment holds the filters
  goTo(document.querySelector(link.getAttribute("href")));
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
addEventListener("beforeprint", () => { updateTables(true); redraw(true); });
if (matchMedia("(max-width: 52rem)").matches) document.querySelector("#filters details").open = false;
show();
document.documentElement.dataset.ready = "yes";
