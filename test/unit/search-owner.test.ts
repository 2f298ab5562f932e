/** By the mark of its requests, a sink waits for those that it gave up, and for no other sink's. */
import { expect, test } from "vitest";
import { WriteFence } from "../../connectors/elasticsearch/fence.ts";
import { SearchClient } from "../../connectors/elasticsearch/http.ts";
import { NO_TLS_KEYS } from "../../src/tls/options.ts";

/** What begins the marks of all runs. */
function ownerOf(prefix: string, daemon: string, sink: string): string {
  const client = new SearchClient({ urls: ["http://127.0.0.1:9"], apiKey: undefined, tls: NO_TLS_KEYS });
  return new WriteFence(client, prefix, [daemon, sink]).mark.replace(/[0-9a-f]+$/, "");
}

test("sinks whose names are one text when they are joined have marks of their own", () => {
  expect(ownerOf("a", "bshop", "search")).not.toBe(ownerOf("ab", "shop", "search"));
  expect(ownerOf("a/b", "shop", "search")).not.toBe(ownerOf("a", "b", "shop/search"));
  expect(ownerOf("a", "shop", "search")).toBe(ownerOf("a", "shop", "search"));
});
