"use strict";
// Light, dark, or as the system has it: a button that goes through the three. `themechange` tells the figures, `colour` what is what.
const THEMES = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" };
const probe = document.body.appendChild(Object.assign(document.createElement("span"), { hidden: true }));

/** What a variable of the style sheet, or any CSS colour, is at present, as rgb(...). */
function colour(name) {
  probe.style.color = name.startsWith("--") ? `var(${name})` : name;
  return getComputedStyle(probe).color;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = THEMES[theme];
  try { localStorage.setItem("plumbline-theme", theme); } catch { /* a page that may store nothing forgets it */ }
  document.dispatchEvent(new Event("themechange"));
}

function storedTheme() {
  try { return localStorage.getItem("plumbline-theme"); } catch { return null; }
}

document.getElementById("theme").addEventListener("click", () => {
  const order = Object.keys(THEMES);
  setTheme(order[(order.indexOf(document.documentElement.dataset.theme) + 1) % order.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
setTheme(storedTheme() in THEMES ? storedTheme() : "auto");
