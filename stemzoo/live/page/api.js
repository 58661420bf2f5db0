// The server as the page sees it: frames, their columns and pictures, news as they come. Owns the token and what a refusal says.
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? sessionStorage.getItem("stemzoo-token");
if (token) {
  sessionStorage.setItem("stemzoo-token", token);
  history.replaceState(null, "", location.pathname);
}
const base = new URL(".", document.baseURI);

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(new URL(path, base), { ...options, headers });
  if (answer.ok) return answer;
  let why = `${answer.status} ${answer.statusText}`;
  try { why = (await answer.json()).error ?? why; } catch { /* no JSON: the status must do */ }
  throw Object.assign(new Error(why), { status: answer.status });
}

export const colours = async () => (await ask("page/colours.json")).json();
export const health = async () => (await ask("health")).json();
export const columns = async (id) => (await ask(`live/frames/${id}`)).json();
export const demo = () => ask("demo", { method: "POST" });

/** The picture of a frame: {height, width, step, grey: Uint8Array}. */
export async function picture(id) {
  const answer = await ask(`live/frames/${id}/image`);
  const [height, width, step] = answer.headers.get("X-Image-Shape").split(",").map(Number);
  return { height, width, step, grey: new Uint8Array(await answer.arrayBuffer()) };
}

/** Send a file; where every place is taken, wait and try again. */
export async function send(file, pixelSize) {
  const query = new URLSearchParams({ name: file.name.slice(0, 200), file: file.name.slice(-200) });
  if (pixelSize) query.set("pixel_size", pixelSize);
  for (;;) {
    try {
      return await ask(`analyze?${query}`, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream", Accept: "application/json" } });
    } catch (error) {
      if (error.status !== 429) throw error;
      await new Promise((done) => setTimeout(done, 700));
    }
  }
}

/** Call `tell` with each piece of news for ever, `state` with on or off. EventSource cannot send a token, hence a stream read by hand. */
export async function listen(tell, state) {
  for (let pause = 500; ; pause = Math.min(2 * pause, 8000)) {
    try {
      const reader = (await ask("live/events")).body.pipeThrough(new TextDecoderStream()).getReader();
      state("on");
      pause = 500;
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const part of parts) if (part.startsWith("data: ")) tell(JSON.parse(part.slice(6)).frames);
      }
    } catch (error) {
      if (error.status === 401) { state("off", "This server wants a token: open the page as /#token=…"); return; }
    }
    state("off");
    await new Promise((done) => setTimeout(done, pause));
  }
}
