// What those do who lead: links, people, export. Names go into the page as text.
"use strict";
(() => {
  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  };
  const act = (text, what) => {
    const made = element("button", "plain", text);
    made.type = "button";
    made.addEventListener("click", () => studio.run(what));
    return made;
  };
  const line = (text, about, ...acts) => {
    const made = element("li", "", "");
    const buttons = element("span", "acts", "");
    buttons.append(...acts);
    made.append(element("span", "", text), element("span", "about", about), buttons);
    return made;
  };

  for (const button of document.querySelectorAll("[data-export]")) {
    button.addEventListener("click", () => studio.run(async () => {
      const done = await studio.ask("/api/export", { build: button.dataset.export });
      const told = Object.entries(done).map(([name, count]) => `${count} ${name}`).join(", ");
      button.parentElement.querySelector('[role="status"]').textContent = `Written: ${told}.`;
    }));
  }

  const people = document.getElementById("people");
  if (!people) return;
  const links = document.getElementById("links");
  // What people do with large images; there is none of it where no collection is served.
  const roles = [...document.querySelectorAll("#roles input")];
  const wordOf = (role) => roles.find((one) => one.value === role).parentElement.textContent.trim();
  const toggles = (one, change) => (one.lead ? [] : roles.map(({ value }) => {
    const held = one.roles.includes(value);
    const made = act(wordOf(value), change({ roles: held ? one.roles.filter((role) => role !== value) : [...one.roles, value] }));
    made.setAttribute("aria-pressed", String(held));
    return made;
  }));
  const show = async () => {
    const [{ reviewers }, { invites }] = await Promise.all(["/api/reviewers", "/api/invites"].map((path) => studio.ask(path, null, "GET")));
    people.replaceChildren(...reviewers.map((one) => {
      const about = [one.lead ? "leads" : "", one.active ? "" : "not let in any more"].filter(Boolean).join(" · ");
      if (String(one.id) === people.dataset.me) return line(`${one.name} (you)`, about);
      const change = (body) => async () => {
        await studio.ask(`/api/reviewers/${one.id}`, body);
        await show();
      };
      return line(one.name, about, ...toggles(one, change), act(one.lead ? "Lead no more" : "Make lead", change({ lead: !one.lead })),
        act(one.active ? "Let in no more" : "Let in again", change({ active: !one.active })));
    }));
    links.replaceChildren(...invites.map((one) => {
      const about = [one.lead ? "will lead" : "", `until ${new Date(one.expires * 1000).toLocaleString()}`].filter(Boolean).join(" · ");
      return line(one.name || "whoever opens it", about, act("Take back", async () => {
        await studio.ask(`/api/invites/${one.id}`, null, "DELETE");
        await show();
      }));
    }));
    if (!invites.length) links.replaceChildren(element("li", "", "There are none."));
  };
  document.getElementById("invite").addEventListener("submit", (event) => {
    event.preventDefault();
    studio.run(async () => {
      const made = await studio.ask("/api/invites", {
        name: document.getElementById("name").value.trim(), lead: document.getElementById("lead").checked,
        ...(roles.length ? { roles: roles.filter((one) => one.checked).map((one) => one.value) } : {}),
      });
      const link = document.getElementById("link");
      link.closest(".made").hidden = false;
      link.value = new URL(made.link, location.href).href;
      link.focus();
      link.select();
      await show();
    });
  });
  show().catch((error) => studio.complain(error.message)); // not by run(): what is pressed meanwhile would be lost
})();
