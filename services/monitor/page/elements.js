"use strict";
/* What the pages share: formats, and elements made or filled by script. */
const elements = (() => {
  const by = (id) => document.getElementById(id);

  /* Formats: null is shown as a dash, never as a zero. */
  const known = (value) => value !== null && value !== undefined;
  const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const count = (value) => (known(value) ? grouped.format(value) : "–");
  const compact = (value) => (Math.abs(value) < 100000 ? grouped.format(value) : short.format(value));
  const percent = (value, digits = 1) => (known(value) ? `${(value * 100).toFixed(digits)} %` : "–");
  const fixed = (value, digits = 3) => (known(value) ? value.toFixed(digits) : "–");
  const money = (cents) => (known(cents) ? grouped.format(cents / 100) : "–");
  const ms = (value) => (!known(value) ? "–" : value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : count(value));
  const day = (text) => new Date(text).toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" });
  const stamp = (text) => `${new Date(text).toISOString().slice(0, 16).replace("T", " ")}`;
  const time = (text) => new Date(text).toISOString().slice(11, 19);
  const span = (seconds) => (seconds >= 86400 ? `${+(seconds / 86400).toFixed(1)} days` : `${+(seconds / 3600).toFixed(1)} hours`);

  const about = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min`
    : seconds < 172800 ? `${+(seconds / 3600).toFixed(1)} h` : `${+(seconds / 86400).toFixed(1)} days`);

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  const say = (id, text) => { by(id).textContent = text; };
  const empty = (id, text) => by(id).replaceChildren(make("p", { class: "empty" }, text));

  function legend(id, entries) {
    by(id).replaceChildren(...entries.map(([color, text, value, kind = ""]) =>
      make("span", {}, color ? make("i", { class: kind, style: `background:${color}` }) : null, `${text} `, make("b", {}, value))));
  }

  /* Shows what the monitor says now, and again and again; `lost` is called while it does not answer. */
  async function poll(path, everyMs, show, lost) {
    try {
      const answer = await fetch(path, { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      show(await answer.json());
    } catch (error) {
      if (error instanceof TypeError && error.message === "Failed to fetch") lost();
      else throw error;
    } finally {
      setTimeout(poll, everyMs, path, everyMs, show, lost);
    }
  }

  return { about, by, compact, count, day, empty, fixed, known, legend, make, money, ms, percent, poll, say, span, stamp, time };
})();
