import { describe, expect, test } from "vitest";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { passwordsIn, withoutPassword } from "../../src/passwords/in-url.ts";

function secretsOf(...values: readonly string[]): Secrets {
  const secrets = new Secrets();
  for (const value of values) secrets.add(value);
  return secrets;
}

test("passwords of URLs are masked by their place, known or not, long or short", () => {
  const secrets = new Secrets();
  expect(secrets.redact("failed: postgres://shop:pw@db:5432/shop?x=1 (and redis://:abc@r)")).toBe(
    "failed: postgres://shop:***@db:5432/shop?x=1 (and redis://:***@r)",
  );
  expect(secrets.redact("http://host:9200/path mail@example.org")).toBe("http://host:9200/path mail@example.org");
});

test("the form of a URL is shown as it is, and a password that is that word is not", () => {
  const form = "Correct `url` (redis://user:password@host:port/db).";
  expect(new Secrets().redact(form)).toBe(form);
  expect(new Secrets().redact("redis://shop:password@cache:6379")).toBe("redis://shop:***@cache:6379");
  const secrets = new Secrets();
  secrets.addFromUrl("redis://user:password@host:6379");
  expect(secrets.redact("redis://user:password@host:6379")).toBe("redis://user:***@host:6379");
});

test.each([
  ["postgres://shop:canary-a@canary-b@db/shop", "host canary-b@db, and canary-a"],
  ["postgres://shop:canary-a@db/shop?application_name=a@b", "the password canary-a"],
  ["redis://shop:canary/canary-b@cache", "canary/canary-b"],
  ["postgres://shop@server:canary-pw@db/shop", "the password canary-pw"],
])("of %s no part of the password is shown, whatever a program takes for it", (url, text) => {
  const secrets = new Secrets();
  secrets.addFromUrl(url);
  expect(secrets.redact(text)).not.toContain("canary");
  expect(new Secrets().redact(`failed: ${url}`)).not.toContain("canary");
  expect(withoutPassword(url)).not.toContain("canary");
});

test("a user with an @, and an address without a password, are shown", () => {
  expect(new Secrets().redact("postgres://shop@server:pw@db/shop")).toBe("postgres://shop@server:***@db/shop");
  for (const url of ["postgres://shop@db:5432/shop", "postgres://shop@db:5432/shop?application_name=a@b"]) {
    expect(new Secrets().redact(url)).toBe(url);
    expect(withoutPassword(url)).toBe(url);
    expect(passwordsIn(url)).toEqual([]);
  }
});

test("a secret that contains another one is masked whole", () => {
  const secrets = secretsOf("abcd-efg", "abcd-efg-hijk");
  expect(secrets.redact("x abcd-efg-hijk y abcd-efg z")).toBe("x *** y *** z");
});

test("a secret with quotes is found in JSON too, one with special characters is taken literally", () => {
  const secrets = secretsOf('a"b\\c$&-long', "(.*)+.*+");
  expect(secrets.redactJson(JSON.stringify({ error: 'a"b\\c$&-long' }))).toBe('{"error":"***"}');
  expect(secrets.redact(JSON.stringify({ error: 'a"b\\c$&-long' }))).toBe('{"error":"***"}');
  expect(secrets.redact("aaaaaaaa (.*)+.*+")).toBe("aaaaaaaa ***");
});

describe.each(["mill", "postgres", "m"])("a secret that ordinary words hold, such as %s,", (secret) => {
  const secrets = secretsOf(secret);
  secrets.addFromUrl(`redis://:${secret}@h`);

  test("leaves those words alone", () => {
    const text = "millrace is running: the postgres source waits a millisecond; password is wrong, see pass:all";
    expect(secrets.redact(text)).toBe(text);
  });

  test.each([
    [`at postgres://shop:${secret}@db/shop now`, "at postgres://shop:***@db/shop now"],
    [`redis://:${secret}@h`, "redis://:***@h"],
    [`https://h/x?access_token=${secret}&y=1`, "https://h/x?access_token=***&y=1"],
    [`host=h password=${secret} port=1`, "host=h password=*** port=1"],
    [`{ "password": "${secret}" }`, '{ "password": "***" }'],
    [`passphrase: '${secret}'`, "passphrase: '***'"],
  ])("is masked where its place tells it: %s", (text, shown) => {
    expect(secrets.redact(text)).toBe(shown);
  });

  test("is masked as a whole value of a document, except of fields that are shown on purpose", () => {
    const document = {
      password: secret,
      list: [secret, `${secret}s`],
      deep: { detail: secret },
      name: secret,
      kind: secret,
      [secret]: 1,
    };
    expect(JSON.parse(secrets.redactJson(JSON.stringify(document, null, 2)))).toEqual({
      ...document,
      password: "***",
      list: ["***", `${secret}s`],
      deep: { detail: "***" },
    });
  });
});

test("a password of URL that holds a space or a quote is masked by its place too", () => {
  const secrets = secretsOf('p w"');
  expect(secrets.redact('redis://u:p w"@h')).toBe("redis://u:***@h");
});

test("names of fields and numbers of a document stay, whatever the secret is", () => {
  const secrets = secretsOf("position", "12345678");
  const json = '{"position":12345678,"error":"at 12345678","of":18446744073709551615}';
  expect(secrets.redactJson(json)).toBe('{"position":12345678,"error":"at ***","of":18446744073709551615}');
});
