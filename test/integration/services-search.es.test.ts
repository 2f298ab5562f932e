import { describe, expect, test } from "vitest";
import { z } from "zod";
import { freshIndexPrefix, ownElasticsearch, searchEngines } from "../support/run/services.ts";

const Info = z.object({ version: z.object({ number: z.string() }) });
const Bulk = z.object({ items: z.array(z.record(z.string(), z.object({ status: z.number() }))) });

function bulkLine(index: string, version: number): string {
  const action = { index: { _index: index, _id: "1", version, version_type: "external_gte" } };
  return `${JSON.stringify(action)}\n${JSON.stringify({ version })}\n`;
}

async function bulk(url: string, body: string): Promise<number[]> {
  const answer = await fetch(`${url}/_bulk?refresh=true`, {
    method: "POST",
    headers: { "content-type": "application/x-ndjson" },
    body,
  });
  return Bulk.parse(await answer.json()).items.flatMap((item) => Object.values(item).map(({ status }) => status));
}

describe.each(searchEngines())("$name", (engine) => {
  test("says its version at /", async () => {
    const answer = await fetch(engine.url());
    expect(Info.parse(await answer.json()).version.number).toMatch(/^\d+\.\d+\.\d+$/);
    expect((await fetch(engine.url(), { method: "HEAD" })).status).toBe(200);
  });

  test("keeps the greater version, and its indices of a fresh prefix are deleted", async () => {
    const url = engine.url();
    let index: string;
    {
      await using indices = freshIndexPrefix(url);
      index = `${indices.prefix}public.orders`;
      const statuses = await bulk(url, bulkLine(index, 5) + bulkLine(index, 5) + bulkLine(index, 4));
      expect(statuses).toEqual([201, 200, 409]);
    }
    expect((await fetch(`${url}/${index}`, { method: "HEAD" })).status).toBe(404);
  });
});

test("an own server keeps acknowledged documents through SIGKILL", { tags: "long" }, async () => {
  await using server = await ownElasticsearch();
  expect(await bulk(server.url, bulkLine("kept", 1))).toEqual([201]);
  await server.kill();
  await server.start();
  expect((await fetch(`${server.url}/kept/_doc/1`)).status).toBe(200);
});
