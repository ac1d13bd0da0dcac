// The door: the token goes to the server once, and comes back as a cookie that no script can read.

const form = document.getElementById("login"), field = document.getElementById("token"), wrong = document.getElementById("wrong");

async function enter(token) {
  wrong.textContent = "";
  const answer = await fetch("/login", {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({token}),
  }).catch(() => null);
  const to = new URL(new URLSearchParams(location.search).get("to") ?? "/", location.origin);  // on this server alone
  if (answer?.ok) location.replace(to.origin === location.origin ? to.pathname + to.search : "/");
  else {
    wrong.textContent = answer === null ? "The server does not answer." : "That is not this server's token.";
    field.focus();
    field.select();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  enter(field.value.trim());
});

if (location.hash.length > 1) {  // as the command that started the server opened it
  const token = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", "/login" + location.search);
  enter(token);
} else field.focus();
