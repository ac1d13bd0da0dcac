// The best so far against what it cost, as SVG in the colours of the page.

import {s, written} from "./dom.js";

const HEIGHT = 270, LEFT = 54, RIGHT = 14, TOP = 12, BOTTOM = 36;

function ticks(low, high, about = 5) {
  const rough = (high - low) / about || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * .999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

/** Decimals that round numbers need to be told apart. */
function fraction(levels) {
  const step = levels.length > 1 ? levels[1] - levels[0] : levels[0] || 1;
  let places = 0;
  while (places < 6 && Math.abs(step * 10 ** places - Math.round(step * 10 ** places)) > 1e-6) places++;
  return places;
}

/** @param points [images, nfe, seconds, value, id] where the best changed; axis 0 images, 2 seconds. */
export function curve(points, {wide = 720, axis = 0, end, baseline = null, name = "", limit = null, pick}) {
  if (!points.length) return null;
  const WIDTH = Math.max(280, Math.min(900, Math.round(wide)));
  const values = points.map((one) => one[3]).concat(baseline === null ? [] : [baseline]);
  let low = Math.min(...values), high = Math.max(...values);
  const margin = (high - low) * .1 || Math.abs(high) * .05 || .5;
  low -= margin; high += margin;
  const most = Math.max(end, points.at(-1)[axis], 1e-9);
  const x = (value) => LEFT + value / most * (WIDTH - LEFT - RIGHT), y = (value) => TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
  const levels = ticks(low, high, 4), places = fraction(levels);
  const made = s("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "curve"},
    s("title", {}, `Best ${name} so far against ${axis ? "seconds" : "images"}: ${written(points[0][3], places + 1)} at first, ${written(points.at(-1)[3], places + 1)} now`));
  for (const one of levels) made.append(s("line", {x1: LEFT, x2: WIDTH - RIGHT, y1: y(one), y2: y(one), class: "grid"}),
    s("text", {x: LEFT - 8, y: y(one) + 4, "text-anchor": "end"}, written(one, places)));
  for (const one of ticks(0, most, WIDTH < 420 ? 4 : 6)) if (axis || Number.isInteger(one)) made.append(s("text", {x: x(one), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle"}, axis ? `${+one.toPrecision(6)}` : one));
  made.append(s("text", {x: WIDTH - RIGHT, y: HEIGHT - 3, "text-anchor": "end", class: "faint"}, axis ? "seconds" : "images"));
  if (baseline !== null) made.append(s("line", {x1: LEFT, x2: WIDTH - RIGHT, y1: y(baseline), y2: y(baseline), class: "base"}),
    s("text", {x: WIDTH - RIGHT, y: y(baseline) + 14, "text-anchor": "end", class: "basetext"}, "baseline"));
  let way = `M${x(points[0][axis])} ${y(points[0][3])}`;
  for (const one of points.slice(1)) way += `H${x(one[axis])}V${y(one[3])}`;
  way += `H${x(Math.max(end, points.at(-1)[axis]))}`;
  made.append(s("path", {d: way, class: "best"}));
  for (const one of points) {
    const dot = s("circle", {cx: x(one[axis]), cy: y(one[3]), r: one === points.at(-1) ? 5 : 3.5, class: "dot"}, s("title", {}, `${written(one[3], places + 2)} after ${one[0]} images`));
    if (pick) dot.addEventListener("click", () => pick(one[4]));
    made.append(dot);
  }
  return made;
}
