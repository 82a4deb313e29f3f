"use strict";
/* Bins of a reference as people read them. */
const bins = (() => {
  const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

  /* A number in as few signs as tell it. */
  function brief(value) {
    const size = Math.abs(value);
    if (size >= 10000) return short.format(value);
    if (Number.isInteger(value) || size >= 1000) return grouped.format(value);
    return `${+value.toPrecision(size < 1 ? 2 : 3)}`;
  }

  /* Cut points lie halfway between neighbouring values, so those of whole numbers end in .5 or .0. */
  const areWhole = (edges) => edges.every((edge) => Number.isInteger(edge * 2));

  function label(low, high, whole) {
    if (low === null && high === null) return "all";
    if (!whole) return low === null ? `≤ ${brief(high)}` : high === null ? `> ${brief(low)}` : `${brief(low)} to ${brief(high)}`;
    const first = low === null ? null : Math.floor(low) + 1;
    const last = high === null ? null : Math.floor(high);
    if (first === null) return `≤ ${brief(last)}`;
    if (last === null) return `≥ ${brief(first)}`;
    return first === last ? brief(first) : `${brief(first)}–${brief(last)}`;
  }

  /* The bins that hold anything: label, reference and current share; current is null where nothing came yet. */
  function of({ edges, reference, current }) {
    const whole = areWhole(edges);
    return reference.map((share, index) => {
      const low = index ? edges[index - 1] : null, high = index < edges.length ? edges[index] : null;
      return { label: label(low, high, whole), reference: share, current: current.length ? current[index] : null };
    }).filter((bin) => bin.reference || bin.current);
  }

  return { brief, of };
})();
