/**
 * Postgres to Elasticsearch against a bare load: bulk requests of the same documents, built beforehand, two in flight at a
 * time, over connections such as the sink's, into an index with the same mapping and settings.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { fieldOf, parsed, SearchClient, type Answer } from "../connectors/elasticsearch/http.ts";
import { elasticsearch } from "../scripts/services/servers/search/elasticsearch.ts";
import type { RunningService } from "../scripts/services/service.ts";
import { againstLoad, type Loaded, type LoadTarget } from "./against-load.ts";
import type { Backlog, Work } from "./backlog.ts";
import { rowsOf } from "./orders.ts";
import type { BenchOptions, BenchReport } from "./report.ts";
import { until } from "./slot.ts";

const ROWS = 200_000;
const WANTED = 0.8;
const BODY_BYTES = 4 * 1024 * 1024;
const UNDER_WAY = 2;
const PEER_INDEX = "bare";
const OVERLOADED = 429;
const AGAIN_MS = 50;
const NUMBERS = new Set(["id", "customer_id", "items", "weight", "_millrace_version"]);

export async function run(options: BenchOptions): Promise<BenchReport> {
  await using server = await elasticsearch.start({ own: true, optimized: true });
  await using target = new SearchTarget(server);
  return await againstLoad(
    "apply-elasticsearch",
    target,
    { rowCount: Math.round(ROWS * options.scale), wanted: WANTED },
    options,
  );
}

class SearchTarget implements LoadTarget {
  readonly peer = "bare bulk requests";
  readonly serverPid: number | undefined;
  readonly #url: string;
  readonly #client: SearchClient;
  readonly #signal = new AbortController().signal;

  constructor({ url, pid }: RunningService) {
    this.serverPid = pid;
    this.#url = url;
    const tls = { ca: undefined, cert: undefined, certKey: undefined, serverName: undefined };
    this.#client = new SearchClient({ urls: [url], apiKey: undefined, tls });
  }

  sink(): object {
    return { kind: "elasticsearch", url: this.#url };
  }

  async prepare(): Promise<void> {
    const found = parsed((await this.#request("GET", "/public.orders-000001")).body);
    const own = fieldOf(found, "public.orders-000001");
    const settings = fieldOf(fieldOf(own, "settings"), "index");
    const kept = ["number_of_shards", "number_of_replicas", "refresh_interval"];
    const index = Object.fromEntries(kept.map((name) => [name, fieldOf(settings, name)]));
    await this.#request("PUT", `/${PEER_INDEX}`, { settings: { index }, mappings: fieldOf(own, "mappings") });
  }

  async hasMark(name: string): Promise<boolean> {
    const { status } = await this.#client.request({ method: "GET", path: `/public.mark/_doc/${name}` }, this.#signal);
    return status === 200;
  }

  async load(work: Work, { source }: Backlog): Promise<Loaded> {
    const bodies: Buffer[] = [];
    let lines: string[] = [];
    let length = 0;
    for await (const row of rowsOf(source, work)) {
      const line = `{"index":{"_id":"${row["id"]}"}}\n${documentOf(row)}\n`;
      lines.push(line);
      length += line.length;
      if (length < BODY_BYTES) continue;
      bodies.push(Buffer.from(lines.join("")));
      lines = [];
      length = 0;
    }
    bodies.push(Buffer.from(lines.join("")));
    const startedMs = performance.now();
    const send = async (): Promise<void> => {
      for (let body = bodies.shift(); body !== undefined; body = bodies.shift()) await this.#bulk(body);
    };
    await Promise.all(Array.from({ length: UNDER_WAY }, send));
    return { seconds: (performance.now() - startedMs) / 1000 };
  }

  async #bulk(body: Buffer): Promise<void> {
    await until(async () => {
      const path = `/${PEER_INDEX}/_bulk`;
      const answer = await this.#client.request(
        { method: "POST", path, query: { filter_path: "errors" }, body, isBulk: true },
        this.#signal,
      );
      if (answer.status === OVERLOADED) {
        await sleep(AGAIN_MS);
        return false;
      }
      if (fieldOf(parsed(answer.body), "errors") !== false) throw new Error(`a bulk request got ${answer.status}`);
      return true;
    });
  }

  async count(): Promise<{ own: number; peer: number }> {
    return { own: await this.#documentCount("public.orders"), peer: await this.#documentCount(PEER_INDEX) };
  }

  async #documentCount(index: string): Promise<number> {
    await this.#request("POST", `/${index}/_refresh`);
    return Number(fieldOf(parsed((await this.#request("GET", `/${index}/_count`)).body), "count"));
  }

  async #request(method: "GET" | "PUT" | "POST", path: string, body?: object): Promise<Answer> {
    const answer = await this.#client.request({ method, path, ...(body === undefined ? {} : { body }) }, this.#signal);
    if (answer.status >= 300) throw new Error(`${method} ${path} got ${answer.status}`);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }
}

function documentOf(row: Readonly<Record<string, string | null>>): string {
  const fields = Object.entries(row).map(([name, value]) => {
    const bare = value === null || NUMBERS.has(name) || name === "paid";
    return `"${name}":${bare ? value : JSON.stringify(value)}`;
  });
  return `{${fields.join(",")}}`;
}
