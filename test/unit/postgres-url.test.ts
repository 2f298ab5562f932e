import { createPrivateKey } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { expect, test } from "vitest";
import { parseMysqlUrl } from "../../connectors/mysql/url.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import { sinkError } from "../../connectors/postgres/sink/errors.ts";
import { classify } from "../../connectors/postgres/source/errors.ts";
import { classify as ofState } from "../../src/state/postgres/errors.ts";
import { selfSigned } from "../support/network/certificate.ts";

test.each([
  ["postgres://u:p%40ss@h:1234/db", { user: "u", password: "p@ss", host: "h", port: 1234, database: "db" }],
  ["postgresql://u@[::1]:5433/db", { user: "u", host: "::1", port: 5433, database: "db" }],
  ["postgres://u@/db?host=%2Fvar%2Frun&port=6000", { host: "/var/run", port: 6000, database: "db" }],
  ["postgres://%2Fvar%2Frun/db?user=u", { host: "/var/run", user: "u", database: "db" }],
  ["postgres://u@h/a%2Fb", { database: "a/b", sslMode: "prefer", applicationName: "millrace" }],
  ["postgres://u@h", { database: "u", port: 5432 }],
  [
    "postgres://u@h/db?sslmode=require&application_name=x&connect_timeout=3",
    { sslMode: "require", applicationName: "x", connectTimeoutMs: 3000 },
  ],
  ["postgres://u@h/db?sslmode=require&channel_binding=require", { channelBinding: true }],
  ["postgres://u@h/db?sslrootcert=system", { sslMode: "verify-full", systemRoots: true }],
])("%s", (url, expected) => {
  expect(parsePostgresUrl(url)).toMatchObject(expected);
});

test.each([
  ["mysql://u:canary@h/db", /not of the form/],
  ["postgres://u:can#ary@h/db", /not of the form/],
  ["postgres://u:canary@h:0/db", /port/],
  ["postgres://u:p@canary@h/db", /an `@` that ends no login/],
  ["postgres://u:12/canary@h/db", /an `@` that ends no login/],
  ["postgres://u:canary@a,b/db", /several hosts/],
  ["postgres://u:canary%@h/db", /%/],
  ["postgres://u:canary@h/db?sslmode=yes", /sslmode/],
  ["postgres://u:canary@h/db?sslmod=require", /"sslmod" is not known/],
  ["postgres://u:canary@h/db?sslmode=verify-full&sslrootcert=/nowhere/ca.pem", /sslrootcert can't be read \(ENOENT\)/],
  ["postgres://u:canary@h/db?sslmode=require&sslrootcert=system", /verify-full/],
])("%s is refused with its reason and without its secret", (url, reason) => {
  expect(() => parsePostgresUrl(url)).toThrow(reason);
  try {
    parsePostgresUrl(url);
  } catch (error) {
    expect(String(error)).not.toContain("canary");
    expect(classify(error, "reading source.url")).toMatchObject({
      code: "MR2004",
      kind: "fatal",
      message: expect.stringMatching(/^source\.url can't be used: /),
    });
    expect(sinkError(error, "reading the url")).toMatchObject({
      code: "MR2004",
      kind: "blocked",
      message: expect.stringMatching(/^the sink's url can't be used: /),
    });
    expect(ofState(error)).toMatchObject({
      code: "MR1201",
      kind: "fatal",
      message: expect.stringMatching(/^the state's url can't be used: /),
    });
  }
});

test("PEM files that can't be used are told apart before anything is connected", async () => {
  await using files = await selfSigned();
  const folder = dirname(files.keyPath);
  const key = createPrivateKey(readFileSync(files.keyPath));
  const passphrase = "canary";
  for (const type of ["pkcs8", "sec1"] as const)
    writeFileSync(`${folder}/${type}.pem`, key.export({ type, format: "pem", cipher: "aes-256-cbc", passphrase }));
  writeFileSync(`${folder}/empty.pem`, "");
  const cases = [
    ["certificate.pem", "certificate.pem", "key.pem", null],
    ["empty.pem", "certificate.pem", "key.pem", /(sslrootcert|ssl-ca) holds no certificate/],
    ["key.pem", "certificate.pem", "key.pem", /(sslrootcert|ssl-ca) holds no certificate/],
    ["certificate.pem", "key.pem", "key.pem", /cert holds no certificate/],
    ["certificate.pem", "certificate.pem", "empty.pem", /key holds no private key/],
    ["certificate.pem", "certificate.pem", "pkcs8.pem", /key is a private key with a passphrase/],
    ["certificate.pem", "certificate.pem", "sec1.pem", /key is a private key with a passphrase/],
    ["certificate.pem", "certificate.pem", "", /cert is given without ssl-?key/],
    ["certificate.pem", "certificate.pem", "none.pem", /key can't be read \(ENOENT\)/],
  ] as const;
  for (const [ca, certificate, privateKey, reason] of cases) {
    const parses = [
      () => parsePostgresUrl(`postgres://h/d?sslrootcert=${ca}&sslcert=${certificate}&sslkey=${privateKey}`, folder),
      () => parseMysqlUrl(`mysql://h/d?ssl-ca=${ca}&ssl-cert=${certificate}&ssl-key=${privateKey}`, folder),
    ];
    for (const parse of parses) {
      if (reason === null) expect(parse()).toMatchObject({ certificate: files.certificate });
      else expect(parse).toThrow(reason);
    }
  }
});
