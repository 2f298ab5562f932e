import { expect, test } from "vitest";
import { sinkFromUrl } from "../../src/cli/init/init-urls.ts";

test.each([
  ["./warehouse.duckdb", "duckdb", "./warehouse.duckdb"],
  ["duckdb:./w.duckdb", "duckdb", "./w.duckdb"],
  ["./replica.sqlite", "sqlite", "./replica.sqlite"],
  ["/data/R.DB3", "sqlite", "/data/R.DB3"],
  ["sqlite:data/any", "sqlite", "data/any"],
  ["sqlite:///data/any", "sqlite", "/data/any"],
  ["postgres://a@b/c.sqlite", "postgres", "postgres://a@b/c.sqlite"],
])("%s is a sink of kind %s", (given, kind, value) => {
  expect(sinkFromUrl(given)).toMatchObject({ kind, place: { value } });
});

test.each(["./x.db", "sqlite:", "ftp://a/b.sqlite"])("%s is refused", (given) => {
  expect(() => sinkFromUrl(given)).toThrow(/no kind is known/);
});
