/** The proxies of a drill give back what they were given. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { expect, test } from "vitest";
import { Relay } from "../../src/cli/drill/relay.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

test("a byte passes once, whatever was forwarded, stalled and forwarded again", async () => {
  using folder = temporaryFolder();
  const echo = createServer((socket) => socket.pipe(socket)).listen(0, "127.0.0.1");
  await once(echo, "listening");
  const bound = echo.address();
  const address = `127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`;
  await using relay = await Relay.open(folder.file("asked"));
  const asking = connect(folder.file("asked")).setEncoding("utf8");
  asking.write(address);
  const [port] = await once(asking, "data");
  asking.destroy();
  const client = connect(Number(port), "127.0.0.1").setEncoding("utf8");
  let received = "";
  client.on("data", (text) => void (received += text));
  let sent = "";
  const say = async (text: string) => {
    sent += text;
    client.write(text);
    // The echo of one that is sent twice is here before that of the next.
    while (received.length < sent.length) await once(client, "data");
    expect(received).toBe(sent);
  };
  await say("a");
  relay.forward(address);
  await say("b");
  relay.stall(address);
  relay.forward(address);
  relay.forward(address);
  await say("c");
  await say("d");
  client.destroy();
  echo.close();
});
