// Coming in by a link: what stands behind the # is its secret, and is sent once, when somebody says so.
"use strict";
(() => {
  const form = document.getElementById("join");
  const naming = document.getElementById("naming");
  const name = document.getElementById("name");
  const token = location.hash.slice(1);

  if (!token) studio.complain("This link is not whole: what stands behind the # is missing. Copy all of it.");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    studio.run(async () => {
      try {
        await studio.ask("/api/join", { token, name: name.value });
      } catch (error) {
        if (error.code !== "name" || !naming.hidden) throw error;
        naming.hidden = false;
        name.required = true;
        name.focus();
        return;
      }
      location.replace("/");
    });
  });
})();
