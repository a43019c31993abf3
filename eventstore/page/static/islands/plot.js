// Plots on a canvas, in the page's colours, as wide as their place.

import { uPlot } from "../parts/uplot.js";
import { shownText } from "./shown_text.js";

const HEIGHT = 260;
const SIZE = 6;

// A token as a canvas takes it, which knows no light-dark(): the browser says what it comes to.
function colour(token) {
  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  probe.style.color = `var(--${token})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// Draw into a place, and anew when it gets another width or the theme changes.
function drawn(place, optionsOf, data) {
  let plot = null;
  const draw = () => {
    plot?.destroy();
    plot = new uPlot({ width: Math.max(200, place.clientWidth), height: HEIGHT, ...optionsOf() }, data, place);
  };
  draw();
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    plot.setSize({ width: Math.max(200, width), height: HEIGHT });
  }).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  return { destroy: () => plot.destroy() };
}

function axes(xLabel, yLabel, values) {
  const common = {
    stroke: colour("ink-2"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1 },
    font: "11px system-ui, sans-serif",
    labelFont: "11px system-ui, sans-serif",
    labelSize: 18,
  };
  return [
    { ...common, label: shownText(xLabel), ...(values && { values }) },
    { ...common, label: shownText(yLabel), size: 64 },
  ];
}

// How times are written beside an axis: days, and hours where days would all be the same.
function timeText(splits) {
  const hours = splits.length > 1 && splits[1] - splits[0] < 86_400;
  return (seconds) => new Date(seconds * 1000).toISOString().slice(5, hours ? 16 : 10).replace("T", " ");
}

// Quiet dots for `all`, and for each of `chosen` its shape and its name beside it.
export function scatter(place, { all, chosen, name, by }) {
  const isTime = by === "time";
  const scale = isTime ? 1000 : 1;
  const points = [...all.map(([x, y]) => [x / scale, y, null]), ...chosen.map((one) => [one.x / scale, null, one.y])];
  points.sort((one, other) => one[0] - other[0]);
  const data = [0, 1, 2].map((column) => points.map((point) => point[column]));
  const lone = data[0].length && data[0][0] === data[0].at(-1);
  const options = () => ({
    scales: { x: { time: isTime, ...(lone && { range: [data[0][0] - 1, data[0][0] + 1] }) } },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { show: false },
    axes: axes(isTime ? "time in UTC" : by, name, isTime && ((_, splits) => splits.map(timeText(splits)))),
    series: [
      {},
      { paths: () => null, points: { show: true, size: 4, width: 0, fill: colour("line-strong"), stroke: colour("line-strong") } },
      { paths: () => null, points: { show: false } },
    ],
    hooks: { draw: [(plot) => drawChosen(plot, chosen, scale)] },
  });
  return drawn(place, options, data);
}

// Bars, a line or dots of pairs. Texts are side by side in their order; times are in UTC.
export function chartOf(place, { chart, xName, yName, xType, pairs }) {
  const kept = pairs.filter(([x, y]) => x !== null && Number.isFinite(Number(y ?? NaN)));
  const isTime = xType.startsWith("timestamp") || xType.startsWith("date");
  const isNumber = /^(u?int|float|double|decimal)/.test(xType);
  const names = isTime || isNumber ? null : kept.map(([x]) => shownText(typeof x === "string" ? x : JSON.stringify(x)));
  const valueOf = (x, number) => (names ? number : isTime ? Date.parse(x) / 1000 : Number(x));
  const points = kept.map(([x, y], number) => [valueOf(x, number), Number(y)]).filter(([x]) => Number.isFinite(x));
  points.sort((one, other) => one[0] - other[0]);
  const data = [0, 1].map((column) => points.map((point) => point[column]));
  const [least, greatest] = [data[0][0] ?? 0, data[0].at(-1) ?? 0];
  const room = chart === "bar" || least === greatest ? Math.max((greatest - least) / Math.max(1, data[0].length - 1), least === greatest ? 1 : 0) : 0;
  const values = isTime
    ? (_, splits) => splits.map(timeText(splits))
    : names && ((_, splits) => splits.map((at) => (Number.isInteger(at) ? (names[at] ?? "").slice(0, 16) : "")));
  const series = { stroke: colour("accent"), fill: chart === "bar" ? colour("accent") : undefined, width: chart === "bar" ? 0 : 2 };
  const options = () => ({
    scales: {
      x: { time: isTime, range: (_, from, to) => [from - room / 2, to + room / 2] },
      y: { range: (_, from, to) => uPlot.rangeNum(chart === "bar" ? Math.min(0, from) : from, chart === "bar" ? Math.max(0, to) : to, 0.1, true) },
    },
    cursor: { show: false },
    axes: axes(isTime ? `${xName}, in UTC` : xName, yName, values),
    series: [
      {},
      {
        ...series,
        ...(chart === "bar" && { paths: uPlot.paths.bars({ size: [0.7, 60] }), points: { show: false } }),
        ...(chart === "dots" && { paths: () => null, points: { show: true, size: 5, fill: colour("accent") } }),
      },
    ],
  });
  return drawn(place, options, data);
}

function drawChosen(plot, chosen, scale) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.font = `600 ${11 * ratio}px system-ui, sans-serif`;
  ctx.strokeStyle = colour("ink");
  ctx.fillStyle = colour("bg");
  ctx.lineWidth = 2 * ratio;
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  const taken = [];
  for (const one of chosen) {
    const x = plot.valToPos(one.x / scale, "x", true);
    const y = plot.valToPos(one.y, "y", true);
    if (one.shape === null) {
      numbered(ctx, one.number, x, y, ratio);
      continue;
    }
    const path = shape(one.shape, x, y, SIZE * ratio);
    ctx.fill(path);
    ctx.stroke(path);
    const text = shownText(one.name).slice(0, 40);
    const width = ctx.measureText(text).width;
    const left = x + width + 12 * ratio > bbox.left + bbox.width ? x - width - 10 * ratio : x + 10 * ratio;
    // Names keep off each other: down by a line, until there is room.
    let baseline = y + 4 * ratio;
    while (taken.some((it) => Math.abs(it.baseline - baseline) < 12 * ratio && left < it.right && left + width > it.left)) {
      baseline += 12 * ratio;
    }
    taken.push({ left, right: left + width, baseline });
    ctx.save();
    ctx.strokeStyle = colour("bg");
    ctx.lineWidth = 3 * ratio;
    ctx.strokeText(text, left, baseline);
    ctx.fillStyle = colour("ink");
    ctx.fillText(text, left, baseline);
    ctx.restore();
  }
  ctx.restore();
}

// Of more nodes than there are shapes, each is a disc with its number, as the table has it.
function numbered(ctx, number, x, y, ratio) {
  const disc = new Path2D();
  disc.arc(x, y, 9 * ratio, 0, 2 * Math.PI);
  ctx.fill(disc);
  ctx.stroke(disc);
  ctx.save();
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.fillStyle = colour("ink");
  ctx.fillText(String(number), x, y);
  ctx.restore();
}

// △ ▢ ◇ ○ ▽ ☆, as the table has them.
function shape(number, x, y, size) {
  const path = new Path2D();
  const corners = (...points) => {
    for (const [across, down] of points) path.lineTo(x + across * size, y + down * size);
    path.closePath();
  };
  if (number === 0) corners([0, -1], [1, 0.8], [-1, 0.8]);
  else if (number === 1) corners([-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]);
  else if (number === 2) corners([0, -1.1], [1.1, 0], [0, 1.1], [-1.1, 0]);
  else if (number === 3) path.arc(x, y, size * 0.9, 0, 2 * Math.PI);
  else if (number === 4) corners([0, 1], [1, -0.8], [-1, -0.8]);
  else {
    const star = [...Array(10).keys()].map((corner) => {
      const [angle, radius] = [(Math.PI * corner) / 5, corner % 2 ? 0.5 : 1.2];
      return [Math.sin(angle) * radius, -Math.cos(angle) * radius];
    });
    corners(...star);
  }
  return path;
}
