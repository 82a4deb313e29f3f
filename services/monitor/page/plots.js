"use strict";
/* Plots as inline SVG, drawn at the width of their box so that text keeps its size. */
const plots = (() => {
  const NS = "http://www.w3.org/2000/svg";

  function shape(name, attributes, parent, title) {
    const node = document.createElementNS(NS, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (title) shape("title", {}, node).textContent = title;
    if (parent) parent.append(node);
    return node;
  }

  function label(parent, x, y, text, { anchor = "start", strong = false } = {}) {
    const node = shape("text", { x, y, "text-anchor": anchor }, parent);
    if (strong) node.setAttribute("class", "strong");
    node.textContent = text;
    return node;
  }

  function canvas(box, height, name) {
    const width = Math.max(box.clientWidth, 220);
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": name });
    box.replaceChildren(svg);
    return { svg, width, height };
  }

  /* A round number not below the maximum, and the ticks up to it. */
  function scale(maximum, ticks = 3) {
    if (!(maximum > 0)) return { top: 1, ticks: [0, 1] };
    const raw = maximum / ticks;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const count = Math.ceil(maximum / step - 1e-9);
    return { top: step * count, ticks: Array.from({ length: count + 1 }, (_, i) => i * step) };
  }

  function rows(parent, ticks, y, left, right, format) {
    for (const tick of ticks) {
      shape("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "axis" }, parent);
      label(parent, left - 6, y(tick) + 4, format(tick), { anchor: "end" });
    }
  }

  function stacked(box, points, layers, { name, height = 190, format, at, seconds }) {
    const { svg, width } = canvas(box, height, name);
    const left = 34, right = width - 2, bottom = height - 20, top = 8;
    const totals = points.map((p) => layers.reduce((sum, l) => sum + p[l.key], 0) / seconds);
    const axis = scale(Math.max(...totals));
    const y = (value) => bottom - (value / axis.top) * (bottom - top);
    const step = (right - left) / points.length;
    rows(svg, axis.ticks, y, left, right, format);
    points.forEach((point, index) => {
      let below = 0;
      const said = layers.map((l) => `${l.label} ${point[l.key]}`).join(", ");
      for (const layer of layers) {
        const value = point[layer.key] / seconds;
        if (!value) continue;
        shape("rect", {
          x: left + index * step + 0.5, width: Math.max(step - 1, 1), y: y(below + value),
          height: y(below) - y(below + value), fill: layer.color,
        }, svg, `${at(point)}: ${said}`);
        below += value;
      }
    });
    label(svg, left, height - 4, at(points[0]));
    label(svg, right, height - 4, at(points[points.length - 1]), { anchor: "end" });
  }

  function lines(box, points, series, { name, height = 190, at, describe, bars }) {
    const { svg, width } = canvas(box, height, name);
    const left = 34, right = width - 4, bottom = height - 20, top = 8;
    const y = (value) => bottom - value * (bottom - top);
    const step = (right - left) / Math.max(points.length, 1);
    const x = (index) => left + (index + 0.5) * step;
    rows(svg, [0, 0.25, 0.5, 0.75, 1], y, left, right, (v) => v.toFixed(2));
    const most = Math.max(...points.map(bars.value), 1);
    points.forEach((point, index) => {
      const tall = (bars.value(point) / most) * (bottom - top) * 0.35;
      shape("rect", { x: x(index) - step * 0.38, width: step * 0.76, y: bottom - tall, height: tall, fill: "var(--line)" }, svg);
    });
    for (const line of series) {
      let path = "";
      points.forEach((point, index) => {
        const value = point[line.key];
        if (value === null) return;
        path += `${path && points[index - 1]?.[line.key] !== null ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
        shape("circle", { cx: x(index), cy: y(value), r: points.length > 30 ? 1.6 : 2.4, fill: line.color }, svg);
      });
      if (path) shape("path", { d: path, fill: "none", stroke: line.color, "stroke-width": 1.8, "stroke-linejoin": "round" }, svg);
    }
    points.forEach((point, index) => {
      shape("rect", { x: x(index) - step / 2, width: step, y: top, height: bottom - top, fill: "transparent" }, svg, describe(point));
    });
    label(svg, left, height - 4, at(points[0]));
    if (points.length > 1) label(svg, right, height - 4, at(points[points.length - 1]), { anchor: "end" });
  }

  function columns(box, points, { name, value, at, describe, format, height = 190 }) {
    const { svg, width } = canvas(box, height, name);
    const left = 46, right = width - 2, bottom = height - 20, top = 8;
    const highest = Math.max(...points.map(value), 0), lowest = Math.min(...points.map(value), 0);
    const axis = scale(Math.max(highest, -lowest));
    const floor = lowest < 0 ? -axis.top * Math.min(1, Math.ceil((-lowest / axis.top) * 3) / 3) : 0;
    const y = (amount) => bottom - ((amount - floor) / (axis.top - floor)) * (bottom - top);
    const step = (right - left) / points.length;
    rows(svg, axis.ticks, y, left, right, format);
    points.forEach((point, index) => {
      const amount = value(point);
      shape("rect", {
        x: left + index * step + step * 0.12, width: step * 0.76, y: Math.min(y(amount), y(0)),
        height: Math.max(Math.abs(y(amount) - y(0)), 1), fill: amount < 0 ? "var(--red)" : "var(--green)", rx: 1,
      }, svg, describe(point));
    });
    label(svg, left, height - 4, at(points[0]));
    if (points.length > 1) label(svg, right, height - 4, at(points[points.length - 1]), { anchor: "end" });
  }

  /* Durations: a bar to p99 with a tick at p50, and the declared budget as a mark. */
  function durations(box, stages, { name, format }) {
    const row = 30, { svg, width } = canvas(box, stages.length * row + 4, name);
    const left = 76, right = width - 108;
    const most = Math.max(...stages.map((s) => Math.max(s.p99_ms ?? 0, s.budget_ms ?? 0)), 0.001);
    // Square root: a stage of a tenth of a millisecond stays visible beside a budget of fifty.
    const x = (ms) => left + Math.sqrt(ms / most) * (right - left);
    stages.forEach((stage, index) => {
      const y = index * row + 6, over = stage.budget_ms !== null && stage.p99_ms > stage.budget_ms;
      const said = `${stage.name}: p50 ${format(stage.p50_ms)}, p95 ${format(stage.p95_ms)}, p99 ${format(stage.p99_ms)} ms`
        + (stage.budget_ms === null ? "" : `, budget ${stage.budget_ms} ms`);
      label(svg, 0, y + 13, stage.name, { strong: true });
      shape("rect", { x: left, y: y + 4, width: right - left, height: 10, fill: "var(--faint)", rx: 2 }, svg, said);
      shape("rect", { x: left, y: y + 4, width: Math.max(x(stage.p99_ms) - left, 1), height: 10, fill: over ? "var(--red)" : "var(--blue)", opacity: 0.35, rx: 2 }, svg, said);
      shape("rect", { x: left, y: y + 4, width: Math.max(x(stage.p50_ms) - left, 1), height: 10, fill: over ? "var(--red)" : "var(--blue)", rx: 2 }, svg, said);
      if (stage.budget_ms !== null) shape("line", { x1: x(stage.budget_ms), x2: x(stage.budget_ms), y1: y, y2: y + 18, stroke: "var(--ink)", "stroke-width": 2 }, svg, said);
      label(svg, width, y + 13, `${format(stage.p50_ms)} · ${format(stage.p99_ms)} ms`, { anchor: "end", strong: true });
    });
  }

  function deviations(box, variables, { name, threshold }) {
    const row = 20, { svg, width } = canvas(box, variables.length * row + 22, name);
    const left = Math.min(300, width * 0.5), right = width - 96;
    const most = Math.max(threshold * 1.6, ...variables.map((v) => Math.min(v.psi ?? 0, 1.5)));
    const x = (psi) => left + (Math.min(psi, most) / most) * (right - left);
    variables.forEach((variable, index) => {
      const y = index * row + 2;
      const color = variable.drifted ? "var(--red)" : variable.follows_calendar ? "var(--grey)" : variable.exceeds ? "var(--amber)" : "var(--blue)";
      const state = variable.follows_calendar ? "calendar" : variable.drifted ? "drifted" : variable.exceeds ? "exceeds" : "";
      const said = `${variable.name}: PSI ${variable.psi?.toFixed(3) ?? "–"}, noise up to ${variable.noise?.toFixed(3) ?? "–"}. `
        + (variable.follows_calendar ? "Made of the time alone: it follows the calendar and never alarms." : `Alarms above ${threshold} and above noise.`);
      const text = label(svg, 0, y + 12, variable.name, { strong: true });
      fit(text, variable.name, left - 10);
      shape("rect", { x: left, y: y + 3, width: right - left, height: 11, fill: "var(--faint)", rx: 2 }, svg, said);
      if (variable.psi !== null) shape("rect", { x: left, y: y + 3, width: Math.max(x(variable.psi) - left, 1), height: 11, fill: color, rx: 2 }, svg, said);
      if (variable.noise !== null) shape("line", { x1: x(variable.noise), x2: x(variable.noise), y1: y + 1, y2: y + 16, stroke: "var(--ink)", "stroke-width": 1.5 }, svg, said);
      label(svg, right + 8, y + 12, `${variable.psi?.toFixed(3) ?? "–"} ${state}`.trim());
    });
    const bottom = variables.length * row;
    shape("line", { x1: x(threshold), x2: x(threshold), y1: 0, y2: bottom + 2, stroke: "var(--red)", "stroke-dasharray": "3 3" }, svg);
    label(svg, x(threshold), bottom + 15, `threshold ${threshold}`, { anchor: "middle" });
  }

  /* Cut at the front: what tells features apart stands at their end. */
  function fit(text, full, space) {
    let cut = 0;
    while (cut < full.length - 6 && text.getComputedTextLength() > space) {
      cut += 1;
      text.textContent = `…${full.slice(cut)}`;
    }
  }

  function pairs(box, bins, { name, height = 190, describe }) {
    const { svg, width } = canvas(box, height, name);
    const left = 34, right = width - 2, bottom = height - 32, top = 8;
    const axis = scale(Math.max(...bins.map((b) => Math.max(b.reference, b.current))));
    const y = (share) => bottom - (share / axis.top) * (bottom - top);
    const step = (right - left) / bins.length;
    rows(svg, axis.ticks, y, left, right, (v) => `${Math.round(v * 100)}%`);
    bins.forEach((bin, index) => {
      const at = left + index * step, said = describe(bin);
      shape("rect", { x: at + step * 0.1, width: step * 0.38, y: y(bin.reference), height: bottom - y(bin.reference), fill: "var(--grey)", rx: 1 }, svg, said);
      shape("rect", { x: at + step * 0.52, width: step * 0.38, y: y(bin.current), height: bottom - y(bin.current), fill: "var(--blue)", rx: 1 }, svg, said);
    });
    label(svg, left, bottom + 14, "lowest scores");
    label(svg, right, bottom + 14, "highest scores", { anchor: "end" });
  }

  /* A distribution in little: the reference as a grey step, what comes now as bars before it. */
  function spark(box, bins, { name, width = 112, height = 30 }) {
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": name });
    const most = Math.max(...bins.map((b) => Math.max(b.reference, b.current ?? 0)), 1e-9);
    const step = width / bins.length;
    bins.forEach((bin, index) => {
      const bar = (share, fill, inset) => shape("rect", {
        x: index * step + step * inset, width: step * (1 - 2 * inset), y: height - (share / most) * (height - 1),
        height: Math.max((share / most) * (height - 1), share > 0 ? 1 : 0), fill, rx: 1 }, svg);
      bar(bin.reference, "var(--band)", 0.04);
      if (bin.current !== null) bar(bin.current, "var(--blue)", 0.24);
    });
    box.replaceChildren(svg);
  }

  /* Shares by bin, the reference beside what comes now; bins are labelled where there is room. */
  function distribution(box, bins, { name, height = 190, describe }) {
    const { svg, width } = canvas(box, height, name);
    const left = 36, right = width - 2, bottom = height - 22, top = 8;
    const axis = scale(Math.max(...bins.map((b) => Math.max(b.reference, b.current ?? 0))));
    const y = (share) => bottom - (share / axis.top) * (bottom - top);
    const step = (right - left) / bins.length;
    rows(svg, axis.ticks, y, left, right, (v) => `${+(v * 100).toFixed(1)}%`);
    const every = Math.ceil(Math.max(...bins.map((b) => b.label.length)) * 6.2 / step);
    bins.forEach((bin, index) => {
      const at = left + index * step, said = describe(bin);
      const bar = (share, from, fill) => shape("rect", { x: at + step * from, width: step * 0.36, y: y(share), height: bottom - y(share), fill, rx: 1 }, svg, said);
      bar(bin.reference, bin.current === null ? 0.32 : 0.12, "var(--grey)");
      if (bin.current !== null) bar(bin.current, 0.52, "var(--blue)");
      shape("rect", { x: at, width: step, y: top, height: bottom - top, fill: "transparent" }, svg, said);
      if (index % every === 0) label(svg, at + step / 2, height - 6, bin.label, { anchor: "middle" });
    });
  }

  /* One estimate with its interval around zero. */
  function interval(box, range, { name, format, less, more }) {
    const { svg, width } = canvas(box, 52, name);
    const reach = Math.max(Math.abs(range.low), Math.abs(range.high)) * 1.15 || 1;
    const x = (value) => width / 2 + (value / reach) * (width / 2 - 8);
    const color = range.low > 0 ? "var(--green)" : range.high < 0 ? "var(--red)" : "var(--blue)";
    shape("line", { x1: 8, x2: width - 8, y1: 20, y2: 20, class: "axis" }, svg);
    shape("line", { x1: x(0), x2: x(0), y1: 6, y2: 34, stroke: "var(--muted)" }, svg);
    shape("rect", { x: x(range.low), width: Math.max(x(range.high) - x(range.low), 2), y: 15, height: 10, rx: 5, fill: color, opacity: 0.35 }, svg,
      `${format(range.estimate)}, 95 % interval ${format(range.low)} to ${format(range.high)}`);
    shape("circle", { cx: x(range.estimate), cy: 20, r: 5, fill: color }, svg);
    label(svg, x(0), 48, "0", { anchor: "middle" });
    label(svg, 8, 48, less);
    label(svg, width - 8, 48, more, { anchor: "end" });
  }

  return { interval, stacked, lines, columns, durations, deviations, pairs, spark, distribution };
})();
