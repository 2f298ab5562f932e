import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { webhook } from "../../src/ops/webhook.ts";
import { NO_TLS_KEYS, type TlsSettings } from "../../src/tls/options.ts";
import { selfSigned } from "../support/network/certificate.ts";
import { tlsFront } from "../support/network/tls-front.ts";
import { listener } from "../support/network/listener.ts";

const NEVER = new AbortController().signal;
const MESSAGE = { event: "drift", id: "20261120T020000000Z-a1" };
const PLAIN = { key: null, redact: (json: string) => json };

test("a signed message is what another implementation of Standard Webhooks takes, and nothing that was changed is", async () => {
  await using listening = await listener();
  const secret = `whsec_${Buffer.from("0123456789abcdef0123456789abcdef").toString("base64")}`;
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  await webhook({ url: listening.url, key, redact: (json) => json.replace("drift", "***") })(MESSAGE, NEVER);
  const [heard] = listening.heard;
  expect(heard?.body).toEqual({ ...MESSAGE, event: "***" });
  const verifier = new Webhook(secret);
  expect(verifier.verify(heard!.text, heard!.signed)).toEqual(heard!.body);
  expect(() => verifier.verify(`${heard!.text} `, heard!.signed)).toThrow();
});

test("a message is sent again until it is taken, and each refusal is told with host and port", async () => {
  await using listening = await listener((number) => [503, 429, 204][number] ?? 500);
  const url = listening.url.replace("http://", "http://me:s%40cret@");
  const told: string[] = [];
  await webhook({ ...PLAIN, url: `${url}/hook?key=1` })(MESSAGE, NEVER, (error) => told.push(String(error)));
  const { host } = new URL(url);
  expect(told).toEqual(
    [503, 429].map(
      (status) => `MillraceError: the webhook at ${host} did not take the message: it answers with status ${status}`,
    ),
  );
  const authorization = `Basic ${Buffer.from("me:s@cret").toString("base64")}`;
  const message = { method: "POST", path: "/hook?key=1", authorization, body: MESSAGE };
  expect(listening.heard).toMatchObject([message, message, message]);
  expect(new Set(listening.heard.map(({ signed }) => signed["webhook-id"]))).toEqual(new Set([MESSAGE.id]));
});

test.each([401, 404, 302])("status %i is not asked again, and leads nowhere else", async (status) => {
  await using listening = await listener(() => status);
  const sent = webhook({ ...PLAIN, url: `${listening.url}/very-secret` })(MESSAGE, NEVER);
  await expect(sent).rejects.toMatchObject({
    code: "MR1158",
    kind: "fatal",
    message: expect.stringMatching(`${status}`),
  });
  await expect(sent).rejects.not.toThrow(/very-secret/);
  expect(listening.heard).toHaveLength(1);
});

test("where nothing listens, the refusal says so with its fix", async () => {
  const listening = await listener();
  await listening[Symbol.asyncDispose]();
  const { host } = new URL(listening.url);
  const told = Promise.withResolvers<unknown>();
  const stopping = new AbortController();
  const sent = webhook({ ...PLAIN, url: `${listening.url}/very-secret` })(MESSAGE, stopping.signal, told.resolve);
  expect(await told.promise).toMatchObject({
    message: `the webhook at ${host} did not take the message: it can't be reached: ECONNREFUSED`,
    hint: expect.stringContaining(`Nothing listens at ${host}: start the server there, or correct \`notify.webhook\``),
  });
  stopping.abort();
  await expect(sent).rejects.toThrow();
});

test("whoever stops does not wait for one who does not answer", async () => {
  await using listening = await listener(() => 503);
  const stopping = new AbortController();
  const sent = webhook({ ...PLAIN, url: listening.url })(MESSAGE, stopping.signal);
  stopping.abort();
  await expect(sent).rejects.toThrow();
});

test("TLS: an authority of one's own, and a client certificate; an unknown authority is refused at once", async () => {
  await using listening = await listener();
  await using own = await selfSigned(["localhost"]);
  await using client = await selfSigned(["client"]);
  await using front = await tlsFront(listening.url, own);
  await using strict = await tlsFront(listening.url, own, client);
  const sent = (url: string, keys: Partial<TlsSettings>) =>
    webhook({ ...PLAIN, url, tls: { ...NO_TLS_KEYS, ...keys } })(MESSAGE, NEVER);
  const ca = own.certificatePath;
  await sent(front.url, { ca });
  await sent(strict.url, { ca, cert: client.certificatePath, certKey: client.keyPath });
  expect(listening.heard).toHaveLength(2);
  const refused = [
    [front.url, {}, /not signed by an authority that is trusted/],
    [front.url, { ca: client.certificatePath }, /not signed by an authority that is trusted/],
    [strict.url, { ca }, /wants a client certificate/],
    [front.url, { ca: "/nowhere.pem" }, /`ca` names can't be read/],
    [listening.url, { ca }, /does not ask for TLS/],
  ] as const;
  for (const [url, keys, said] of refused) {
    const error = { code: "MR1158", kind: "fatal", message: expect.stringMatching(said) };
    await expect(sent(url, keys)).rejects.toMatchObject(error);
  }
  expect(listening.heard).toHaveLength(2);
});
