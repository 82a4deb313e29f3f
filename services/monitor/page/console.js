"use strict";
(() => {
  const POLL_MS = 2000;
  const SHOWN = 12;
  const { about, by, compact, count, day, empty, fixed, known, legend, make, money, ms, percent, poll, say, span, stamp, time } = elements;
  let showAll = false, newest = null;

  function header(state) {
    document.title = `Flywheel · ${state.title}`;
    say("title", state.title);
    by("simulated").hidden = !state.simulated;
    const loop = state.loop;
    const [kind, text] = !loop.broker_answers ? ["bad", "the broker does not answer"]
      : loop.catching_up ? ["warn", `catching up, ${count(loop.lag_records)} records behind`]
      : !state.model ? ["warn", "no model deployed yet"]
      : !(loop.decisions_per_second > 0) ? ["warn", "no traffic"]
      : loop.fallback_share > 0.5 ? ["warn", `live, ${fallenTo(loop.fallback_step)}: ${percent(loop.fallback_share)} fall back`]
      : ["good", "live"];
    status(kind, text);
    say("clock", loop.event_time ? `event time ${stamp(loop.event_time)} UTC` : "");
    const restarted = Object.entries(loop.restarts).filter(([, times]) => times > 0).map(([name, times]) => `${name} ${times}`);
    say("foot", `State of ${time(state.generated_at)} UTC. Restarts: ${restarted.length ? restarted.join(", ") : "none"}.`
      + ` Unreadable records: ${count(loop.unreadable)}. Repeated decisions: ${count(loop.repeats)}.`
      + ` Numbered decisions: ${count(state.evidence.answered)} answered, ${count(state.evidence.logged)} logged.`);
  }

  function fallenTo(step) {
    return { defaults: "by the model on defaults", rule: "by the rule", static: "by the static answer" }[step] ?? "not as declared";
  }

  function status(kind, text) {
    by("status").className = `badge status ${kind}`;
    say("status", text);
    document.body.className = kind === "good" ? "live" : "";
  }

  function loopPicture(state) {
    const { loop, freshness, stages, model, maturity, quality, drift } = state;
    const total = stages.find((stage) => stage.name === "total");
    const drifted = drift.variables.filter((variable) => variable.drifted).length;
    const score = drift.score;
    const step = (what, big, unit, sub, title, kind = "") => make("div", { class: "step", title },
      make("div", { class: "what" }, what), make("div", { class: `big ${kind}` }, big, make("small", {}, unit)), make("div", { class: "sub" }, sub));
    by("loop").replaceChildren(
      step("Events", count(loop.events), "", `monitor ${count(loop.lag_records)} records behind`,
        "Payments the broker has accepted, redelivered ones included."),
      step("Features", known(freshness.lag_p50_ms) ? ms(freshness.lag_p50_ms) : "–", known(freshness.lag_p50_ms) ? " ms behind" : "",
        `p99 ${ms(freshness.lag_p99_ms)} ms, bound ${count(freshness.bound_ms / 1000)} s` + inEventTime(freshness),
        "How far the online features were behind the accepted events when a decision was made (median), by wall clock; in event time where that runs faster.",
        freshness.lag_p99_ms > freshness.bound_ms ? "warn-text" : ""),
      step("Decisions", fixed(loop.decisions_per_second, loop.decisions_per_second < 10 ? 1 : 0), " per second",
        total ? make("span", {}, `p99 ${ms(total.p99_ms)} ms of ${total.budget_ms} ms`, evidenceOf(state.evidence)) : "none yet",
        "Answered decisions over the last half minute, and the time they took inside the service. Serving numbers its answers, so the log itself shows whether one is missing.",
        total && total.p99_ms > total.budget_ms ? "bad-text" : ""),
      step("Outcomes", count(quality.decisions), " matured", `${count(maturity.waiting)} wait for their truth`,
        `A decision's truth is settled ${span(maturity.matures_after_s)} of event time after it.`),
      step("Drift", drift.variables.length ? count(drifted) : "–", drift.variables.length ? ` feature${drifted === 1 ? "" : "s"} drifted` : "",
        !drift.variables.length ? "no reference yet"
          : make("span", { class: score?.drifted ? "bad-text" : "" }, `score PSI ${fixed(score?.psi, 2)}${score?.drifted ? ", drifted" : ""}`),
        "Population stability index of each feature and of the champion's scores against its training reference.",
        drifted ? "warn-text" : ""),
      step("Model", model ? model.algorithm : "none", "",
        model ? make("span", { class: "version" }, model.champion, make("br"), `trained until ${stamp(model.trained_until)}`) : "the first training deploys one",
        model ? `${model.champion}; deployed ${stamp(model.deployed_at)} UTC by ${model.deployed_by}: ${model.reason}` : "No model is deployed."),
      make("div", { class: "back", title: "Training reads the archived history and the matured labels; what passes its gates goes back to the decisions." },
        make("span", { class: "turn-back" }), make("span", { class: "said" }, `back to training: ${retrained(state)}`), make("span", { class: "turn-back" })),
    );
  }

  function evidenceOf({ answered, lost, under_way: underWay, unexplained }) {
    if (!answered) return "";
    const missing = [[lost, "lost"], [unexplained, "missing"], [underWay, "under way"]].filter(([number]) => number);
    const said = missing.map(([number, what]) => `${count(number)} ${what}`).join(", ");
    return make("span", { class: lost + unexplained ? "bad-text" : "" }, ` · ${said || "all logged"}`);
  }

  function inEventTime({ event_clock_speed: speed, lag_p50_event_s: lag }) {
    return known(speed) && known(lag) && speed >= 2 ? ` · ≈ ${about(lag)} of event time` : "";
  }

  function retrained({ training_runs: [run], retraining }) {
    const asked = retraining.last_requested_at;
    if (asked && (!run || run.finished_at < asked)) return `a new model was asked for at ${time(asked)} UTC`;
    if (!run) return "no run has finished yet";
    return `${run.version ?? "the last run"} ${run.error ? "failed" : run.deployed ? "was deployed" : "was not deployed"} at ${stamp(run.finished_at)} UTC`;
  }

  function decisions(state) {
    const mix = state.mix;
    if (!mix.decisions) {
      say("mix-note", "");
      by("mix-legend").replaceChildren();
      return empty("mix", "No decision yet: they appear as soon as somebody asks serving for one.");
    }
    say("mix-note", `Decisions per second by wall clock, in slices of ${mix.slice_s} s; shares are of the newest ${count(mix.decisions)} decisions.`);
    const layers = [
      { key: "declined", label: "declined", color: "var(--red)" },
      { key: "stepped_up", label: "stepped up", color: "var(--amber)" },
      { key: "approved", label: "approved", color: "var(--green)" },
    ];
    legend("mix-legend", [
      ...layers.map((layer) => [layer.color, layer.label, percent(mix[layer.key])]).reverse(),
      ["", "by fallback", percent(mix.fallback)],
    ]);
    plots.stacked(by("mix"), mix.series, layers, {
      name: "decisions per second by action", format: compact, at: (point) => time(point.at), seconds: mix.slice_s });
  }

  function latency(state) {
    const statuses = Object.entries(state.freshness.statuses).map(([view, counts]) => {
      const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
      return `${view}: ${Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, n]) => `${name} ${percent(n / all)}`).join(", ")}`;
    });
    say("freshness", statuses.length ? `Features at decision time: ${statuses.join("; ")}.` : "");
    if (!state.stages.length) {
      say("latency-note", "");
      return empty("latency", "No decision yet, so no duration.");
    }
    say("latency-note", "p50 · p99 inside the service; the mark is the declared budget. Square-root scale.");
    plots.durations(by("latency"), state.stages, { name: "latency by stage", format: ms });
  }

  function outcomes(state) {
    const { maturity, quality, quality_by_day: days } = state;
    say("quality-advice", maturity.advice ?? "");
    if (!days.length) {
      const awaited = maturity.next_at ? `No matured decision yet: the first matures at event time ${stamp(maturity.next_at)}, ${span(maturity.matures_after_s)} after it was made.`
        : `No decision yet. Truth is known ${span(maturity.matures_after_s)} of event time after a decision.`;
      say("quality-note", maturity.reported_early ? `${count(maturity.reported_early)} positives were reported already.` : "");
      say("saved-note", "");
      by("quality-legend").replaceChildren();
      empty("quality", awaited);
      return empty("saved", "Known once decisions mature.");
    }
    say("quality-note", `${count(quality.decisions)} matured decisions, ${count(quality.positives)} fraudulent. Flagged means stepped up or declined; of those declined ${percent(quality.decline_precision, 0)} were fraud. Grey columns: frauds that day, ${Math.max(...days.map((point) => point.positives))} at most.`);
    const series = [
      { key: "auc", label: "AUC", color: "var(--blue)" },
      { key: "average_precision", label: "average precision", color: "var(--violet)" },
      { key: "recall", label: "recall of flagged", color: "var(--green)" },
      { key: "precision", label: "precision of flagged", color: "var(--amber)" },
    ];
    legend("quality-legend", series.map((line) => [line.color, line.label, fixed(quality[line.key]), "line"]));
    plots.lines(by("quality"), days, series, {
      name: "quality by day", at: (point) => day(point.day), bars: { value: (point) => point.positives },
      describe: (point) => `${point.day}: ${count(point.decisions)} decisions, ${point.positives} fraudulent; `
        + series.map((line) => `${line.label} ${fixed(point[line.key])}`).join(", ") });
    say("saved-note", `${money(quality.saved_cents)} in all, ${percent(quality.saved_share, 0)} of what approving everything would have lost.`);
    plots.columns(by("saved"), days, {
      name: "money saved by day", value: (point) => (point.saved_cents ?? 0) / 100, at: (point) => day(point.day), format: compact,
      describe: (point) => `${point.day}: ${money(point.saved_cents)} saved on ${count(point.decisions)} decisions` });
  }

  function experiment(state) {
    const found = state.experiment;
    if (!found) {
      say("verdict", "");
      return empty("arms", withoutExperiment(state));
    }
    say("verdict", found.verdict);
    const few = (arm) => arm.matured < found.matured_least;
    const tooFew = () => make("td", { class: "num muted", title: "Too few matured decisions yet." }, "–");
    const ranged = (arm, range, format) => few(arm) ? tooFew() : make("td", { class: "num" }, format(range.estimate),
      known(range.low) ? make("span", { class: "range" }, `${format(range.low)} to ${format(range.high)}`) : null);
    const head = [["arm", "", ""], ["decisions", "num", "Since this deployment."], ["by fallback", "num", "Of these decisions, those that a rule or a fixed answer made and not the arm's model. They count in their arm all the same."], [`${found.unit.replace(/_id$/, "")}s`, "num", "Units: a card always meets the same arm."],
      ["matured", "num", "Decisions whose truth is known."], ["precision", "num", "Of flagged decisions, the share that was fraud (95 % interval, clustered by card)."],
      ["recall", "num", "Of frauds, the share that was flagged (95 % interval, clustered by card)."], ["AUC", "num", "Area under the ROC curve on matured decisions."],
      ["saved per 1,000", "num", "Money saved per 1,000 decisions against approving everything; interval clustered by card."]];
    const arms = make("table", {}, make("thead", {}, make("tr", {}, ...head.map(([text, kind, title]) => make("th", { class: kind, title }, text)))),
      make("tbody", {}, ...found.arms.map((arm) => make("tr", {},
        make("td", {}, arm.role, make("span", { class: "range" }, arm.version)), make("td", { class: "num" }, count(arm.decisions)),
        make("td", { class: "num" }, percent(arm.fallback_share)),
        make("td", { class: "num" }, count(arm.units)), make("td", { class: "num" }, count(arm.matured)),
        ranged(arm, arm.precision, (v) => percent(v, 0)), ranged(arm, arm.recall, (v) => percent(v, 0)),
        few(arm) ? tooFew() : make("td", { class: "num" }, fixed(arm.auc)), ranged(arm, arm.saved_per_1000, money)))));
    const units = found.arms.reduce((sum, arm) => sum + arm.units, 0);
    const split = make("p", { class: "note" }, units < found.units_least
      ? `Too few decisions yet to check the split: they are of ${count(units)} ${found.unit.replace(/_id$/, "")}s, ${count(found.units_least)} are needed.`
      : `Traffic: ${percent(found.challenger_share_seen)} of cards meet the challenger, ${percent(found.challenger_share_declared, 0)} declared; `
      + `sample-ratio check p = ${fixed(found.sample_ratio_p, 3)}${known(found.sample_ratio_p) && found.sample_ratio_p < 0.001 ? ": broken" : ""}.`);
    split.title = "Below 0.001 the split itself is broken, and the arms cannot be compared.";
    const parts = [make("div", { class: "scroll" }, arms), split];
    const plot = make("div", { class: "plot" });
    const range = found.difference_per_1000;
    if (range && known(range.low) && !found.arms.some(few)) {
      parts.push(make("p", { class: "note" }, `Challenger minus champion, saved per 1,000 decisions: ${money(range.estimate)} (95 % interval ${money(range.low)} to ${money(range.high)}, p = ${fixed(found.p_value, 3)}).`), plot);
    }
    by("arms").replaceChildren(...parts);
    if (plot.isConnected) plots.interval(plot, range, { name: "difference between the arms", format: money, less: "champion saves more", more: "challenger saves more" });
  }

  function withoutExperiment({ model, canary }) {
    if (!model) return "No model is deployed yet.";
    if (model.challenger) return `Challenger ${model.challenger} is deployed with ${percent(model.challenger_share)} of the traffic; where candidates are ranked the arms are not compared.`;
    return canary ? `No challenger is deployed: ${percent(canary.share)} of the traffic goes to the canary, the rest to the champion.`
      : "No challenger is deployed: all traffic goes to the champion.";
  }

  /* The roles beside champion and challenger, and what this deployment took away. */
  function roles({ model, canary, shadow }) {
    const told = [];
    if (canary) told.push(role("Canary", canary.version, `${percent(canary.share)} of the traffic`, [progress(canary), failing(canary), guard(canary)].filter(Boolean)));
    if (shadow) told.push(role("Shadow", shadow.version, "scores along, answers nothing", [beside(shadow)]));
    if (model?.withdrawn) {
      told.push(role("Withdrawn", model.withdrawn, "no traffic", [`Taken back at ${stamp(model.deployed_at)} UTC by ${model.deployed_by}: ${model.reason}`], "bad-text"));
    }
    by("roles").replaceChildren(...told);
  }

  function role(name, version, share, notes, kind = "") {
    return make("div", { class: "role" }, make("p", {}, make("b", { class: kind }, name), ` ${version} · ${share}`),
      ...notes.map((note) => make("p", { class: "note" }, note)));
  }

  function progress(canary) {
    const next = canary.next_share < 1 ? `${percent(canary.next_share)} of the traffic` : "champion";
    return `This step: ${count(canary.decisions)} of ${count(canary.decisions_needed)} decisions, ${about(canary.lasted_s)} of ${about(canary.lasts_s)}; next step: ${next}.`;
  }

  /* What its units got that was not from its model, beside what the champion's got. */
  function failing(canary) {
    if (!canary.fallback_share && !canary.late) return "";
    return `Not by its model: ${percent(canary.fallback_share)} of the answers, too late: ${count(canary.late)} requests; champion: ${percent(canary.champion_fallback_share)}, ${count(canary.champion_late)}.`;
  }

  function guard({ judged, judged_decisions: seen, crossed }) {
    if (!judged) return "This monitor only watches it: it takes its next step, or goes, when somebody says so.";
    if (crossed) return `Guard: it is to go, which could not be written yet: ${crossed}`;
    return seen ? `Guard: judged at ${count(seen)} decisions, no bound crossed.` : "Guard: too few decisions yet to judge it.";
  }

  function beside(shadow) {
    if (!shadow.decisions) return "No score of it yet.";
    const psi = known(shadow.psi) ? `; PSI ${fixed(shadow.psi)}, noise up to ${fixed(shadow.psi_noise)}` : "";
    return `Newest ${count(shadow.decisions)} scores against those answered with: ${percent(shadow.otherwise_share)} would have been decided otherwise; `
      + `score difference ${fixed(shadow.mean_difference, 4)} on average, distance ${fixed(shadow.mean_distance, 4)}${psi}.`;
  }

  function drift(state) {
    const found = state.drift;
    const awaited = !state.model ? "No model is deployed yet, so there is no training reference."
      : `${count(found.decisions)} of ${count(found.decisions_needed)} decisions that a comparison with training needs.`;
    if (!found.variables.length) {
      by("drift-more").hidden = true;
      for (const id of ["score-note", "drift-note"]) say(id, "");
      by("score-legend").replaceChildren();
      empty("drift", awaited);
      return empty("scores", awaited);
    }
    say("drift-note", `Population stability index of the newest ${count(found.decisions)} decisions against training. The tick is what sampling alone explains (99.9 %); an alarm needs more than both, ${found.alarm_windows} windows in a row.`);
    const sorted = [...found.variables].sort((a, b) => (b.drifted - a.drifted) || ((b.psi ?? 0) - (a.psi ?? 0)));
    plots.deviations(by("drift"), showAll ? sorted : sorted.slice(0, SHOWN), { name: "drift by feature", threshold: found.threshold });
    by("drift-more").hidden = sorted.length <= SHOWN;
    say("drift-more", showAll ? `show the ${SHOWN} largest` : `show all ${sorted.length}`);
    if (!found.score_bins) {
      by("score-legend").replaceChildren();
      say("score-note", "");
      return empty("scores", "No score of this champion yet.");
    }
    const { edges, reference, current } = found.score_bins;
    const bins = reference.map((share, i) => ({ reference: share, current: current[i], low: edges[i - 1], high: edges[i] }));
    say("score-note", `Share of decisions by decile of the training scores; PSI ${fixed(found.score.psi)}, noise up to ${fixed(found.score.noise)}.`);
    legend("score-legend", [["var(--grey)", "training", ""], ["var(--blue)", "now", ""]]);
    plots.pairs(by("scores"), bins, { name: "score distribution",
      describe: (bin) => `score ${known(bin.low) ? `above ${bin.low.toPrecision(3)}` : ""} ${known(bin.high) ? `up to ${bin.high.toPrecision(3)}` : ""}: training ${percent(bin.reference)}, now ${percent(bin.current)}` });
  }

  function runs(state) {
    const { training_runs: found, retraining } = state;
    say("runs-note", retraining.last_requested_at ? `Last asked for at ${time(retraining.last_requested_at)} UTC: ${retraining.last_reason}.`
      : retraining.enabled ? `Drift or a loss of quality asks for a new model, at most every ${retraining.at_most_every_minutes} minutes.` : "Retraining on drift is switched off.");
    if (!found.length) return empty("runs", "No training run has finished yet.");
    by("runs").replaceChildren(...found.slice(0, 4).map((run) => make("div", { class: "run" },
      make("div", { class: "head" }, make("b", {}, run.version ?? "no model"),
        make("span", { class: run.error ? "bad-text" : run.deployed ? "good-text" : "warn-text" }, run.error ? "failed" : run.deployed ? "deployed" : "not deployed"),
        make("span", { class: "muted" }, `${stamp(run.finished_at)} UTC`)),
      run.error ? make("div", { class: "gate" }, run.error) : null,
      ...run.gates.map((gate) => make("div", { class: "gate" }, mark(gate),
        make("span", {}, gate.name.replaceAll("_", " ")), make("span", {}, `${known(gate.value) ? +gate.value.toPrecision(4) : "–"} (${gate.demand})`))))));
  }

  /* A gate may be passed without having been measured: that is no success. */
  function mark({ passed, value }) {
    const [kind, sign, title] = !passed ? ["bad-text", "✗", "failed"] : known(value) ? ["good-text", "✓", "passed"] : ["", "–", "not measured"];
    return make("span", { class: `mark ${kind}`, title }, sign);
  }

  /* Windowed features as served against the same features recomputed from the archive as of each decision. */
  function parity({ parity: found }) {
    if (!found) {
      say("parity-note", "Sampled decisions have their windowed features recomputed from the archive, as of the moment of each.");
      return empty("parity", "No decision has been compared yet.");
    }
    const apart = [`${count(found.undecidable)} values could not be decided upon`];
    if (found.stale_values) apart.push(`of ${count(found.stale_values)} stale ones ${count(found.stale_mismatches)} differed`);
    const skipped = Object.entries(found.skipped).map(([why, number]) => `${count(number)} ${why.replaceAll("_", " ")}`);
    if (skipped.length) apart.push(`decisions passed over: ${skipped.join(", ")}`);
    say("parity-note", `Decisions of ${time(found.since)} to ${time(found.until)} UTC, sampled; their windowed features recomputed from the archive as of each. ${apart.join("; ")}.`);
    by("parity-note").title = "A value cannot be decided upon when an event arrived so close to the decision that nobody knows whether it was seen.";
    const totals = make("p", { class: `verdict ${found.mismatched_share > found.tolerated_share ? "bad-text" : found.mismatches ? "warn-text" : ""}` },
      `${count(found.mismatches)} of ${count(found.values)} values in ${count(found.decisions)} decisions differ`
      + (found.mismatches ? ` (${percent(found.mismatched_share, 3)}; a model is promoted up to ${percent(found.tolerated_share, 1)}).` : "."));
    if (!found.features.length) return by("parity").replaceChildren(totals);
    const number = (value) => (known(value) ? String(+value.toPrecision(7)) : "no number");
    const head = [["feature", ""], ["mismatches", "num"], ["at worst", "num"], ["relative", "num"], ["served", "num"], ["recomputed", "num"], ["event", ""], ["decided", ""]];
    by("parity").replaceChildren(totals, make("table", {},
      make("thead", {}, make("tr", {}, ...head.map(([text, kind]) => make("th", { class: kind }, text)))),
      make("tbody", {}, ...found.features.map((row) => make("tr", {},
        make("td", {}, row.name), make("td", { class: "num" }, count(row.mismatches)), make("td", { class: "num" }, number(row.worst_absolute)),
        make("td", { class: "num" }, percent(row.worst_relative)), make("td", { class: "num" }, number(row.online)), make("td", { class: "num" }, number(row.offline)),
        make("td", { class: "mono" }, row.event_id), make("td", {}, time(row.decided_at)))))));
  }

  function last(state) {
    if (!state.last_decisions.length) return empty("last", "No decision yet.");
    const head = ["decided", "event time", "card", "amount", "score", "action", "why", "arm", "model", "ms"];
    const numbers = new Set(["amount", "score", "ms"]);
    by("last").replaceChildren(make("table", {},
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", numbers.has(text) ? { class: "num" } : {}, text)))),
      make("tbody", {}, ...state.last_decisions.map((row) => make("tr", {},
        make("td", {}, time(row.decided_at)), make("td", {}, stamp(row.event_time)), make("td", { class: "mono" }, row.unit),
        make("td", { class: "num" }, (row.amount / 100).toFixed(2)), make("td", { class: "num" }, row.score.toFixed(4)),
        make("td", {}, make("span", { class: `tag ${row.action}` }, row.action.replace("_", " "))),
        make("td", { class: "why" }, why(row)),
        make("td", {}, row.arm), make("td", {}, row.model_version), make("td", { class: "num" }, ms(row.total_ms)))))));
  }

  /* The cause of a fallback is its first reason too: it is said once. */
  function why({ fallback, reasons }) {
    const cause = fallback === "none" ? [] : [`fallback: ${fallback}`];
    return [...cause, ...reasons.filter((reason) => reason !== fallback)].join(", ").replaceAll("_", " ") || "–";
  }

  function render(state) {
    for (const part of [header, loopPicture, decisions, latency, outcomes, experiment, roles, drift, runs, parity, last]) part(state);
    document.body.dataset.rendered = state.generated_at;
  }

  by("drift-more").addEventListener("click", () => { showAll = !showAll; drift(newest); });
  addEventListener("resize", () => newest && render(newest));
  poll("/api/state", POLL_MS, (state) => render((newest = state)), () => status("bad", "the monitor does not answer"));
})();
