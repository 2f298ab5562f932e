import { expect, test } from "vitest";
import { webhook } from "../../src/ops/webhook.ts";
import { listener } from "../support/listener.ts";

const NEVER = new AbortController().signal;

test("a message is sent again until it is taken", async () => {
  await using listening = await listener((number) => [503, 429, 204][number] ?? 500);
  const url = listening.url.replace("http://", "http://me:s%40cret@");
  await webhook(`${url}/hook?key=1`)({ event: "drift" }, NEVER);
  const authorization = `Basic ${Buffer.from("me:s@cret").toString("base64")}`;
  const message = { method: "POST", path: "/hook?key=1", authorization, body: { event: "drift" } };
  expect(listening.heard).toEqual([message, message, message]);
});

test.each([401, 404, 302])("status %i is not asked again, and leads nowhere else", async (status) => {
  await using listening = await listener(() => status);
  const sent = webhook(`${listening.url}/very-secret`)({}, NEVER);
  await expect(sent).rejects.toMatchObject({
    code: "MR1158",
    kind: "fatal",
    message: expect.stringMatching(`${status}`),
  });
  await expect(sent).rejects.not.toThrow(/very-secret/);
  expect(listening.heard).toHaveLength(1);
});

test("whoever stops does not wait for one who does not answer", async () => {
  await using listening = await listener(() => 503);
  const stopping = new AbortController();
  const sent = webhook(listening.url)({}, stopping.signal);
  stopping.abort();
  await expect(sent).rejects.toThrow();
});
