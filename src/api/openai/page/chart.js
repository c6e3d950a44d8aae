// Small charts of the last minutes, as SVG.
import { make } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 48;

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Points of a series as path text; a gap where nothing was known.
function path(values, slots, top, closed) {
  let out = "";
  let from = -1;
  const x = (i) => ((i + slots - values.length) / Math.max(slots - 1, 1)) * WIDTH;
  const y = (v) => HEIGHT - (v / top) * (HEIGHT - 4) - 1;
  const close = (i) => { if (closed && from >= 0) out += `L${x(i).toFixed(1)} ${HEIGHT}L${x(from).toFixed(1)} ${HEIGHT}Z`; };
  values.forEach((v, i) => {
    if (!Number.isFinite(v)) { close(i - 1); from = -1; return; }
    out += `${from < 0 ? "M" : "L"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
    if (from < 0) from = i;
  });
  close(values.length - 1);
  return out;
}

// A tile with a title, a figure and a chart of one or two series.
export class Tile {
  constructor(title, { unit = "", format = String, top = 0, names = [] } = {}) {
    this.title = title;
    this.format = format;
    this.top = top;
    this.names = names;
    this.value = make("span", {}, "–");
    this.more = make("p", { class: "more" });
    this.svg = shape("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.low = make("span", {}, "");
    this.high = make("span", {}, "");
    this.element = make("div", { class: "card tile" }, make("h3", {}, title),
      make("p", { class: "value" }, this.value, unit ? make("small", {}, unit) : null), this.more,
      this.svg, make("p", { class: "chart-range" }, this.low, this.high));
    this.show("–", "", [[]], 2, 0);
  }
  // `series`: arrays of values of equal age; `seconds`: the time that the chart spans.
  show(value, more, series, slots, seconds) {
    this.value.textContent = value;
    this.more.textContent = more;
    const known = series.flat().filter(Number.isFinite);
    const most = known.length ? Math.max(...known) : 0;
    const top = Math.max(this.top, most, 1e-9);
    this.svg.replaceChildren(shape("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }));
    series.forEach((values, i) => {
      if (i === 0) this.svg.append(shape("path", { class: "area", d: path(values, slots, top, true) }));
      this.svg.append(shape("path", { class: i ? "line second" : "line", d: path(values, slots, top, false) }));
    });
    this.low.textContent = seconds ? `${Math.round(seconds / 60)} min` : "";
    this.high.textContent = known.length ? `highest ${this.format(most)}` : "";
    this.svg.setAttribute("aria-label", known.length
      ? `${this.title}: now ${value}, highest ${this.format(most)}` : `${this.title}: nothing yet`);
  }
}
