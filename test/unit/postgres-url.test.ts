import { expect, test } from "vitest";
import { parsePostgresUrl } from "../../connectors/postgres/url.ts";

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
    expect(error).toMatchObject({ code: "MR2004", kind: "fatal" });
  }
});
