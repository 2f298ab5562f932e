import { createServer } from "node:net";
import { expect, test } from "vitest";
import { tryHandshake } from "../../src/tls/failure.ts";
import { listening } from "../support/network/listening.ts";

test("an abort ends a handshake that nobody answers, and keeps one from beginning", async () => {
  let count = 0;
  await using silent = await listening(
    createServer((socket) => (count++, socket.on("error", () => undefined).resume())),
  );
  const { hostname: host, port } = new URL(`tcp://${silent.host}`);
  const address = { host, port: Number(port) };
  const none = { spoke: false, code: undefined };
  const stop = new AbortController();
  const trying = tryHandshake(address, {}, stop.signal);
  stop.abort();
  expect(await trying).toEqual(none);
  const before = count;
  expect(await tryHandshake(address, {}, stop.signal)).toEqual(none);
  expect(count).toBe(before);
});
