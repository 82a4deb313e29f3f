"use strict";
(() => {
  const POLL_MS = 5000;
  const MODELS_SHOWN = 4;
  const REQUEST = "at request";
  const { about, by, count, fixed, known, make, ms, percent, poll, say, stamp, time } = elements;
  const ORDERS = {
    "as declared": null,
    name: (a, b) => a.definition.name.localeCompare(b.definition.name),
    importance: (a, b) => (b.importance ?? -1) - (a.importance ?? -1),
    PSI: (a, b) => (b.drift?.psi ?? -1) - (a.drift?.psi ?? -1),
    "null share": (a, b) => (b.values?.null_share ?? -1) - (a.values?.null_share ?? -1),
  };
  const rows = new Map();
  const chosen = { text: new URLSearchParams(location.search).get("q") ?? "", group: "all", order: "as declared" };
  let catalogue = null;

  const place = (name) => `feature-${name}`;
  const eventPlace = (event, field = "") => `event-${event}${field && `-${field}`}`;
  const featureLink = (name) => make("a", { href: `#${place(name)}` }, make("code", {}, name));
  /* Where a feature's entity, key and default stand: null for one that is computed at the request. */
  const stored = ({ window, attribute }) => window ?? attribute;
  const group = ({ definition }) => stored(definition)?.entity ?? REQUEST;
  const share = (value) => (value > 0 && value < 0.001 ? "< 0.1 %" : percent(value));
  const psiClass = (drift) => (drift?.drifted ? "bad-text" : drift?.exceeds && !drift.follows_calendar ? "warn-text" : "");
  const psiState = (drift) => (!drift ? "" : drift.drifted ? "drifted" : drift.follows_calendar ? "calendar" : drift.exceeds ? "exceeds" : "");

  function status(kind, text) {
    by("status").className = `badge status ${kind}`;
    say("status", text);
    document.body.className = kind === "good" ? "live" : "";
  }

  function header() {
    document.title = `Flywheel · features of ${catalogue.title}`;
    say("title", catalogue.title);
    by("simulated").hidden = !catalogue.simulated;
    status(catalogue.decisions ? "good" : "warn", catalogue.decisions ? "live" : catalogue.champion ? "no comparable decision yet" : "no model deployed yet");
    say("foot", `Made from the declaration of ${catalogue.usecase}; values of the newest ${count(catalogue.decisions)} decisions, as of ${time(catalogue.generated_at)} UTC.`);
  }

  function facts() {
    const { features, freshness, events, models, champion } = catalogue;
    const windowed = features.filter((entry) => entry.definition.window), loaded = features.filter((entry) => entry.definition.attribute);
    const kinds = [[windowed.length, "over windows"], [loaded.length, "loaded"], [features.length - windowed.length - loaded.length, "at the request"]];
    const entities = [...new Set([...windowed, ...loaded].map(group))];
    const drifted = features.filter((entry) => entry.drift?.drifted).length;
    const judged = features.some((entry) => entry.drift);
    const step = (what, big, unit, sub, title, kind = "") => make("div", { class: "step", title },
      make("div", { class: "what" }, what), make("div", { class: `big ${kind}` }, big, make("small", {}, unit)), make("div", { class: "sub" }, sub));
    by("facts").replaceChildren(
      step("Features", count(features.length), "", kinds.filter(([n]) => n).map(([n, what]) => `${n} ${what}`).join(", "),
        "Each is declared once and means the same in training, in the stream and at the moment of decision."),
      step("Entities", count(entities.length), "", entities.join(", ") || "none", "What windows and loaded attributes are about."),
      step("Freshness", ms(freshness.lag_p50_ms), known(freshness.lag_p50_ms) ? " ms behind" : "", `p99 ${ms(freshness.lag_p99_ms)} ms, bound ${count(freshness.bound_ms / 1000)} s`,
        "How far windows were behind the accepted events when a decision was made (median); past the bound they are stale.",
        freshness.lag_p99_ms > freshness.bound_ms ? "warn-text" : ""),
      step("Drift", judged ? count(drifted) : "–", judged ? " drifted" : "", judged ? `PSI above ${catalogue.drift_threshold} and above noise, sustained` : "no reference yet",
        "Against the champion's training reference.", drifted ? "warn-text" : ""),
      step("Models", count(models.length), models.length === 1 ? " version" : " versions", champion ? make("span", { class: "version" }, champion) : "none deployed yet",
        `In the model store; the champion is ${champion ?? "not chosen yet"}. ${events.length} events feed the features.`),
    );
  }

  /* What never changes of a feature is made once; live parts are filled at every look. */
  function row(entry) {
    const { definition } = entry;
    const parts = {};
    const live = (name, kind) => (parts[name] = make("div", { class: `cell ${kind}` }));
    parts.plot = make("div", { class: "plot" });
    parts.legend = make("div", { class: "legend" });
    parts.facts = make("dl");
    parts.quantiles = make("p", { class: "note" });
    const node = make("details", { class: "feature", id: place(definition.name) },
      make("summary", {},
        make("div", { class: "what" }, make("code", { class: "title" }, definition.name), personalTag(definition), make("div", { class: "meaning" }, definition.meaning)),
        ...origin(definition),
        live("spark", "values"), live("nulls", "nulls num"), live("psi", "psi num"), live("importance", "weight"),
        make("span", { class: "chevron" })),
      make("div", { class: "more" }, make("div", {}, parts.facts), make("div", {}, make("h3", {}, "Values"), parts.legend, parts.plot, parts.quantiles)));
    node.addEventListener("toggle", () => node.open && opened(rows.get(definition.name)));
    return { node, parts, entry };
  }

  function origin(definition) {
    const { window, attribute } = definition;
    const cells = (source, under, length, steps) => [
      make("div", { class: "cell source" }, source, make("span", { class: "under" }, under)),
      make("div", { class: "cell window" }, length, steps ? make("span", { class: "under" }, steps) : null)];
    if (window) return cells(window.event, [window.field, keyed(window)].filter(Boolean).join(", "), window.length, steps(window));
    if (attribute) return cells(attribute.table, `${attribute.column}, ${keyed(attribute)}`, attribute.valid_for || "for ever", "valid");
    return cells(REQUEST, inputs(definition), "–", "");
  }

  function personalTag({ personal }) {
    return personal.length ? make("span", { class: "tag personal", title: `Made of the personal field${personal.length > 1 ? "s" : ""} ${personal.join(", ")}` }, "personal") : null;
  }

  const keyed = ({ key }) => `by ${key.join(", ")}`;
  const steps = ({ step, delay }) => [delay && `${delay} ago`, step ? `steps ${step}` : "exact"].filter(Boolean).join(", ");

  function inputs(definition) {
    const features = definition.inputs.filter((input) => input.is_feature).length;
    const fields = definition.inputs.filter((input) => !input.is_feature).map((input) => input.name);
    return [...fields, features ? `${features} feature${features > 1 ? "s" : ""}` : ""].filter(Boolean).join(", ");
  }

  function fill(row) {
    const { parts, entry } = row, { definition, values, drift, importance, distribution } = entry;
    parts.nulls.replaceChildren(values ? `${percent(values.null_share, 0)} null` : "–",
      values && known(values.default_share) ? make("span", { class: "under" }, `${percent(values.default_share, 0)} default`) : "");
    parts.psi.replaceChildren(make("span", { class: psiClass(drift) }, fixed(drift?.psi)), make("span", { class: "under" }, psiState(drift)));
    parts.psi.title = drift ? `Noise alone explains up to ${fixed(drift.noise)}. Alarms above ${catalogue.drift_threshold} and above noise, sustained.` : "";
    const most = Math.max(...catalogue.features.map((other) => other.importance ?? 0));
    parts.importance.replaceChildren(...(known(importance) ? [share(importance), make("span", { class: "bar" }, make("i", { style: `width:${(importance / (most || 1)) * 100}%` }))] : ["–"]));
    if (distribution) plots.spark(parts.spark, bins.of(distribution), { name: `distribution of ${definition.name}` });
    else parts.spark.replaceChildren("–");
    if (row.node.open) opened(row);
  }

  function opened({ parts, entry }) {
    parts.facts.replaceChildren(...pairs(entry).filter(([, value]) => value !== null).flatMap(([term, ...value]) => [make("dt", {}, term), make("dd", {}, ...value)]));
    const { distribution, values, definition } = entry;
    if (!distribution) {
      parts.plot.replaceChildren(make("p", { class: "empty" }, "A model that is deployed brings the distribution it was trained on."));
      return;
    }
    const shown = bins.of(distribution);
    parts.legend.replaceChildren(
      make("span", {}, make("i", { style: "background:var(--grey)" }), "training reference"),
      make("span", {}, make("i", { style: "background:var(--blue)" }), values ? `newest ${count(catalogue.decisions)} decisions` : "no decision yet"));
    plots.distribution(parts.plot, shown, {
      name: `distribution of ${definition.name}`,
      describe: (bin) => `${bin.label}: training ${percent(bin.reference)}, now ${percent(bin.current)}` });
    const range = values && known(values.median) ? `Now: median ${bins.brief(values.median)}, nine of ten between ${bins.brief(values.low)} and ${bins.brief(values.high)}. ` : "";
    parts.quantiles.textContent = values ? `${range}No number: ${percent(values.null_share)}, in training ${percent(distribution.reference_null_share)}.` : "";
  }

  function pairs({ definition, values, importance, drift, models }) {
    const { window, attribute } = definition, entity = stored(definition), links = (nodes) => make("div", { class: "links" }, ...nodes);
    return [
      ["meaning", definition.meaning],
      ["owner", definition.owner || null],
      source(definition, links),
      ["entity", entity ? `${entity.entity}, by ` : null, entity ? make("code", {}, entity.key.join(", ")) : "", entity ? asRead(entity) : ""],
      ["filter", window ? window.conditions || "every event counts" : null],
      ["window", window ? `${window.length}${window.delay ? `, ending ${window.delay} before the decision` : ", up to the very event"}` : null],
      ["tail", window ? (window.step ? `moves in steps of ${window.step}, the same in every engine` : "exact to the event") : null],
      ["valid", attribute ? (attribute.valid_for ? `${attribute.valid_for} from the moment a load is as of, or until the next` : "for ever, until the next load") : null],
      ["default", entity ? `${entity.default}, ${window ? "the value of an empty window" : "where nothing valid is loaded"}` : null, values && known(values.default_share) ? `; ${percent(values.default_share)} of decisions now` : ""],
      ["freshness", window ? windowFreshness(window.entity) : attribute ? loadFreshness(attribute.table) : null],
      ["personal", definition.personal.length ? `made of ${definition.personal.join(", ")}` : "no personal field"],
      ["PSI now", drift ? make("span", { class: psiClass(drift) }, `${fixed(drift.psi)} ${psiState(drift)} `) : null, drift ? make("span", { class: "under" }, `noise up to ${fixed(drift.noise)}`) : ""],
      ["importance", known(importance) ? `${share(importance)} of what the champion draws from its features` : null],
      ["read by", definition.read_by.length ? links(definition.read_by.map(featureLink)) : null],
      ["reasons", definition.reasons.length ? definition.reasons.join(", ").replaceAll("_", " ") : null],
      ["models", models.length ? used(models) : "none yet"],
    ];
  }

  function source({ window, attribute, inputs }, links) {
    if (attribute) return ["source", "table ", make("code", {}, attribute.table), " · ", make("code", {}, attribute.column), ", loaded from a batch"];
    if (!window) return ["inputs", links(inputs.map(input))];
    return ["source", make("a", { href: `#${eventPlace(window.event)}` }, window.event), window.field ? " · " : "",
      window.field ? make("a", { href: `#${eventPlace(window.event, window.field)}` }, make("code", {}, window.field)) : ""];
  }

  const asRead = ({ key, request_key: asked }) => (key.join() === asked.join() ? "" : `, read by ${asked.join(", ")} of the request`);

  function input({ name, is_feature: isFeature }) {
    if (isFeature) return featureLink(name);
    const request = catalogue.events.find((event) => event.is_request);
    return make("a", { href: `#${eventPlace(request.name, name)}` }, make("code", {}, name), " of the request");
  }

  /* Of an entity's windows, or of a table. */
  function statuses(name) {
    const counts = Object.entries(catalogue.freshness.statuses[name] ?? {}), all = counts.reduce((sum, [, n]) => sum + n, 0);
    const seen = counts.sort((a, b) => b[1] - a[1]).map(([status, n]) => `${status} in ${percent(n / all)}`).join(", ");
    return seen && `${seen} of decisions`;
  }

  function windowFreshness(entity) {
    const { lag_p50_ms: lag, bound_ms: bound } = catalogue.freshness, seen = statuses(entity);
    return `${ms(lag)} ms behind, bound ${count(bound / 1000)} s${seen && `; ${seen}`}`;
  }

  function loadFreshness(table) {
    const age = catalogue.freshness.load_age_p50_ms[table];
    // Loaded as of a later moment than the events are about: not used for them yet.
    const told = !known(age) ? "" : age < 0 ? `loads as of ${about(-age / 1000)} later (median), not used yet` : `loads ${about(age / 1000)} old (median)`;
    return [told, statuses(table)].filter(Boolean).join("; ") || "no decision has read it yet";
  }

  function used(places) {
    const found = places.map((at) => catalogue.models[at]);
    const rank = ({ role }) => ["champion", "challenger", ""].indexOf(role);
    const first = [...found].sort((a, b) => rank(a) - rank(b)).slice(0, MODELS_SHOWN);
    const line = (model) => make("div", {}, make("code", {}, model.version), " ", make("span", { class: `role ${model.role}` }, model.role || `of ${stamp(model.created_at)}`));
    return make("div", {}, ...first.map(line), found.length > first.length ? make("span", { class: "under" }, `and ${found.length - first.length} earlier`) : "");
  }

  function chips() {
    const entries = catalogue.features, tally = new Map([["all", entries.length]]);
    for (const entry of entries) tally.set(group(entry), (tally.get(group(entry)) ?? 0) + 1);
    tally.set("personal", entries.filter((entry) => entry.definition.personal.length).length);
    tally.set("shifted", entries.filter((entry) => psiClass(entry.drift)).length);
    by("chips").replaceChildren(...[...tally].map(([name, n]) => {
      const chip = make("button", { type: "button", class: "chip", "aria-pressed": `${chosen.group === name}` }, name, make("b", {}, `${n}`));
      chip.addEventListener("click", () => { chosen.group = name; chips(); list(); });
      return chip;
    }));
  }

  function isShown(entry) {
    const { definition: d } = entry;
    const inGroup = chosen.group === "all" || chosen.group === group(entry) || (chosen.group === "personal" && d.personal.length > 0)
      || (chosen.group === "shifted" && psiClass(entry.drift));
    const said = [d.name, d.meaning, group(entry), d.window?.event, d.window?.field, d.attribute?.table, d.attribute?.column, ...(stored(d)?.key ?? []), d.window?.conditions, d.owner, ...d.inputs.map(({ name }) => name), ...d.reasons,
      d.personal.length ? "personal" : "", psiState(entry.drift)].join(" ").toLowerCase().replaceAll("_", " ");
    return Boolean(inGroup) && chosen.text.toLowerCase().split(/\s+/).every((word) => said.includes(word.replaceAll("_", " ")));
  }

  function list() {
    const order = ORDERS[chosen.order], shown = catalogue.features.filter(isShown);
    if (order) shown.sort(order);
    const nodes = shown.map((entry) => rows.get(entry.definition.name).node);
    // Moved only when another order or choice is asked for: a row that is read keeps its focus.
    if (nodes.length !== by("features").children.length || nodes.some((node, at) => node !== by("features").children[at])) by("features").replaceChildren(...nodes);
    by("none").hidden = nodes.length > 0;
    say("found", nodes.length === catalogue.features.length ? "" : `${nodes.length} of ${catalogue.features.length}`);
  }

  function events() {
    by("events").replaceChildren(...catalogue.events.map((event) => make("section", { class: "event", id: eventPlace(event.name) },
      make("h3", {}, event.name, make("span", {}, `${event.is_request ? " · the request" : ""} · in ${event.read_by.length} windows`)), make("div", { class: "meaning" }, ...event.meaning.split("`").map((text, at) => (at % 2 ? make("code", {}, text) : text))),
      ...event.fields.map((field) => make("div", { class: "field", id: eventPlace(event.name, field.name) },
        make("div", {}, make("code", {}, field.name), field.personal ? make("span", { class: "tag personal" }, "personal") : null), readers(field.read_by))))));
  }

  function readers(names) {
    if (!names.length) return make("span", { class: "muted" }, "no feature reads it");
    if (names.length <= 3) return make("div", { class: "links" }, ...names.map(featureLink));
    return make("details", {}, make("summary", {}, `${names.length} features read it`), make("div", { class: "links" }, ...names.map(featureLink)));
  }

  /* A link to a feature opens its row, shown or not before. */
  function follow() {
    const name = decodeURIComponent(location.hash.slice(1)).replace(/^feature-/, ""), found = rows.get(name);
    if (!found) return;
    if (!found.node.isConnected) {
      Object.assign(chosen, { text: "", group: "all" });
      by("search").value = "";
      chips();
      list();
    }
    found.node.open = true;
    found.node.scrollIntoView({ block: "start" });
  }

  function show(answer) {
    const isFirst = catalogue === null;
    catalogue = answer;
    const names = catalogue.features.map((entry) => entry.definition.name);
    if (names.length !== rows.size || names.some((name) => !rows.has(name))) {
      rows.clear();
      for (const entry of catalogue.features) rows.set(entry.definition.name, row(entry));
      events();
    }
    header();
    facts();
    for (const entry of catalogue.features) fill(Object.assign(rows.get(entry.definition.name), { entry }));
    if (!by("chips").contains(document.activeElement)) chips();
    list();
    if (isFirst) follow();
    document.body.dataset.rendered = catalogue.generated_at;
  }

  by("search").value = chosen.text;
  by("search").addEventListener("input", ({ target }) => {
    chosen.text = target.value.trim();
    history.replaceState(null, "", `${location.pathname}${chosen.text && `?q=${encodeURIComponent(chosen.text)}`}${location.hash}`);
    if (catalogue) list();
  });
  by("order").replaceChildren(...Object.keys(ORDERS).map((name) => make("option", {}, name)));
  by("order").addEventListener("change", ({ target }) => { chosen.order = target.value; if (catalogue) list(); });
  addEventListener("hashchange", follow);
  addEventListener("resize", () => { for (const each of rows.values()) if (each.node.open) opened(each); });
  poll("/api/catalogue", POLL_MS, show, () => status("bad", "the monitor does not answer"));
})();
