// A question as it is being written. What is typed is in the browser's memory at once, and on the server a moment later;
// while the server is away it stays in the browser and is sent when the server is back.
"use strict";
const EMPTY = { question: "", answer: "", answer_type: "text", choices: [], category: "", box: null, hidden_when_small: null };
const fieldsOf = (given) => Object.fromEntries(Object.keys(EMPTY).map((name) => [name, given[name] ?? EMPTY[name]]));

const openDraft = (prefix, image, given, { onState, onConflict, onSaved }) => {
  const { same, memory, patience } = annotation;
  const draft = {
    key: given.key || `${prefix}${crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}`}`,
    id: given.id ?? null, version: given.version ?? 0, state: given.state || "draft", returned: given.returned || null,
    faults: given.faults || [], seconds: given.seconds || 0, fields: fieldsOf(given.fields || given), tried: given.tried || [], saved: !given.unsaved,
  };
  const wait = patience();
  let saving = null;
  let timer = null;

  // What was sent and not confirmed may be on the server all the same; `tried` has it.
  const remember = () => memory.set(draft.key, {
    key: draft.key, id: draft.id, version: draft.version, fields: draft.fields, tried: draft.tried, seconds: draft.seconds,
  });
  const settle = (question, stored) => {
    Object.assign(draft, { id: question.id, version: question.version, faults: question.faults || [], state: question.state });
    draft.tried = [];
    draft.saved = same(draft.fields, stored);
    if (draft.saved) memory.drop(draft.key);
    else remember();
  };
  const request = (more) => {
    const sent = structuredClone(draft.fields);
    draft.tried = [...draft.tried.filter((one) => !same(one, sent)), sent].slice(-5);
    remember();
    // The key makes of a first save that got no answer, and is sent again, one question and not two.
    const reply = draft.id === null
      ? studio.ask(`/api/annotation/images/${image}/questions`, { ...sent, key: draft.key.slice(prefix.length) }, "POST", more)
      : studio.ask(`/api/annotation/questions/${draft.id}`, { ...sent, version: draft.version }, "PUT", more);
    return { reply, sent };
  };
  const send = async () => {
    const fresh = draft.id === null;
    const { reply, sent } = request();
    const question = await reply;
    settle(question, fresh ? fieldsOf(question) : sent);
  };
  const conflict = (stored) => {
    // What this page sent may have arrived before the connection broke: then there is nothing to choose.
    if (draft.tried.some((one) => same(one, fieldsOf(stored)))) return settle(stored, fieldsOf(stored));
    return onConflict(stored);
  };
  const failed = (error) => {
    const stored = error.code === "version" && error.told && error.told.error.question;
    if (stored) return conflict(stored);
    if (!error.away) {
      onState("refused", error.message);
      throw error;
    }
    onState("away");
    wait.again(() => draft.save().catch(() => {}));
    throw error;
  };
  const work = async () => {
    onState("saving");
    try {
      do {
        await send();
      } while (!draft.saved);
    } catch (error) {
      await failed(error);
    }
    if (!draft.saved) return work();
    wait.done();
    onState("saved");
    onSaved(draft);
    return null;
  };
  draft.save = () => {
    clearTimeout(timer);
    if (draft.saved) return Promise.resolve();
    saving ||= work().finally(() => { saving = null; });
    return saving;
  };
  draft.change = (some) => {
    Object.assign(draft.fields, some);
    draft.saved = false;
    onState(remember() ? "changed" : "forgetful");
    clearTimeout(timer);
    timer = setTimeout(() => draft.save().catch(() => {}), 500);
  };
  // The other tab's words, or ours over them.
  draft.take = (stored, theirs) => {
    draft.version = stored.version;
    draft.tried = [];
    if (theirs) {
      Object.assign(draft, { fields: fieldsOf(stored), faults: stored.faults || [], saved: true });
      memory.drop(draft.key);
    } else {
      remember();
    }
  };
  draft.forget = () => {
    clearTimeout(timer);
    wait.done();
    draft.saved = true;
    memory.drop(draft.key);
  };
  // A tab that is closed sends what it has; if that fails, the browser still remembers it.
  draft.part = () => {
    if (!draft.saved) request({ keepalive: true }).reply.catch(() => {});
  };
  return draft;
};

// Drafts of an image: those of the server, with what this browser remembers beyond them.
const recovered = (prefix, questions) => {
  const { memory, same } = annotation;
  const kept = memory.keys(prefix).map((key) => memory.get(key)).filter((one) => one && one.fields);
  const found = questions.map((question) => {
    const local = kept.find((one) => one.id === question.id || (one.id === null && one.tried.some((sent) => same(sent, fieldsOf(question)))));
    if (!local) return question;
    kept.splice(kept.indexOf(local), 1);
    const unchanged = same(local.fields, fieldsOf(question));
    if (question.state !== "draft" || unchanged) {
      memory.drop(local.key);
      if (!unchanged) kept.push({ ...local, key: null, id: null, tried: [] });
      return question;
    }
    // The server is ahead only by what this browser sent itself, or somebody saved in another tab: then both are shown.
    const ours = question.version === local.version || local.tried.some((sent) => same(sent, fieldsOf(question)));
    return { ...question, ...local, version: ours ? question.version : local.version, id: question.id, faults: question.faults, unsaved: true };
  });
  return [...found, ...kept.map((one) => ({ ...one, id: null, unsaved: true }))];
};
