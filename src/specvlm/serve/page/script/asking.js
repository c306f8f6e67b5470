// What the page asks of its server.

let key = "";  // the server's, once it has asked for one

class Refused extends Error {
  constructor(message, status = 0) { super(message); this.status = status; }
}

async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    throw signal?.aborted ? error : new Refused("The server can't be reached.");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refused(told.error?.message ?? `the server answered with status ${response.status}`, response.status);
}

// The chunks of an answer, as they come.
async function* streamed(body, signal) {
  const response = await post("v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    if (done) throw new Refused("the server went away in the middle of the answer");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Refused(chunk.error.message);
      yield chunk;
    }
  }
}

// A video that is sent once: from then on the server knows it by its name, unless it forgets.
class Film {
  constructor(blob, name) {
    this.blob = blob;
    this.name = name;
    this.uuid = Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
    this.known = false;
    this.said = [];  // questions and answers in turn
  }

  // `ask` is called with the messages of a conversation about this video that goes on with a question.
  async about(question, ask) {
    for (;;) {
      const known = this.known;
      const part = { type: "video_url", uuid: this.uuid, ...(known ? {} : { video_url: { url: await this.address() } }) };
      const messages = [...this.said, question].map((text, number) => number % 2 ? { role: "assistant", content: text }
        : { role: "user", content: number ? text : [part, { type: "text", text }] });
      try {
        await ask(messages);
        this.known = true;
        return;
      } catch (error) {
        if (!known || error.status !== 400) throw error;
        this.known = false;
      }
    }
  }

  address() {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.replace(/^data:(?!video\/)[^;,]*/, "data:video/mp4"));
      reader.onerror = () => reject(new Refused(`${this.name} can't be read`));
      reader.readAsDataURL(this.blob);
    });
  }
}
