import type { Finding } from "../../src/core/contracts/connector.ts";
import { classifyConnection, classifyEngine, searchError } from "./errors.ts";
import { type ClientSettings, errorOf, fieldOf, parsed, pathOf, SearchClient, serversOf } from "./http.ts";
import { ok } from "../kit/findings.ts";

/** Time for four answers that cost the engine nothing. */
const ANSWERS_MS_MAX = 10_000;

/** Preflight: connects, and writes nothing. */
export async function check(
  settings: ClientSettings & { readonly prefix: string },
  until: AbortSignal,
  withinMs = ANSWERS_MS_MAX,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const silent = AbortSignal.timeout(withinMs);
  const signal = AbortSignal.any([until, silent]);
  try {
    await using client = await SearchClient.open(settings, signal);
    findings.push(await checkProduct(client, signal));
    findings.push(await checkHealth(client, signal));
    findings.push(await checkAccess(client, settings.prefix, signal));
    findings.push(await checkTasks(client, signal));
  } catch (error) {
    const { message, hint } = silent.aborted
      ? searchError(
          "MR3301",
          "retryable",
          `the search engine at ${serversOf(settings.urls)} did not answer for ${withinMs / 1000} s`,
        )
      : classifyConnection(error, signal, serversOf(settings.urls));
    findings.push({ id: "elasticsearch.connect", level: "error", what: message, fix: hint ?? null });
  }
  return findings;
}

async function checkProduct(client: SearchClient, signal: AbortSignal): Promise<Finding> {
  const answer = await client.request({ method: "GET", path: "/" }, signal);
  if (answer.status === 401 || answer.status === 403) throw classifyEngine(errorOf(answer), "connecting");
  const version = fieldOf(parsed(answer.body), "version");
  const distribution = fieldOf(version, "distribution");
  const number = fieldOf(version, "number");
  if (typeof number !== "string") {
    return ok("elasticsearch.connect", "connected; the server does not tell its version");
  }
  const product = distribution === "opensearch" ? "OpenSearch" : "Elasticsearch";
  const major = Number(number.split(".")[0]);
  const oldest = product === "OpenSearch" ? 2 : 8;
  if (major >= oldest) return ok("elasticsearch.connect", `connected to ${product} ${number}`);
  return {
    id: "elasticsearch.connect",
    level: "warning",
    what: `${product} ${number} is older than what Millrace is tested with`,
    fix: `use ${product} ${oldest} or newer`,
  };
}

async function checkHealth(client: SearchClient, signal: AbortSignal): Promise<Finding> {
  const answer = await client.request({ method: "GET", path: "/_cluster/health" }, signal);
  const status = answer.status === 200 ? fieldOf(parsed(answer.body), "status") : undefined;
  if (status !== "red") {
    return ok("elasticsearch.health", `cluster health is ${typeof status === "string" ? status : "unknown"}`);
  }
  return {
    id: "elasticsearch.health",
    level: "warning",
    what: "cluster health is red: some shards can't be written",
    fix: "GET _cluster/allocation/explain says why",
  };
}

/** The fence asks for running tasks (WriteFence). */
async function checkTasks(client: SearchClient, signal: AbortSignal): Promise<Finding> {
  const query = { actions: "indices:data/write/bulk", group_by: "none" };
  const { status } = await client.request({ method: "GET", path: "/_tasks", query }, signal);
  const id = "elasticsearch.tasks";
  if (status === 200) return ok(id, "the sink can see whether its own requests still run");
  return {
    id,
    level: "error",
    what: `the engine does not show running tasks (GET /_tasks: ${status}), so the sink can't know whether requests that it gave up still run`,
    fix: "grant the cluster privilege monitor (OpenSearch: cluster_monitor)",
  };
}

/** Makes the sink's first requests. */
async function checkAccess(client: SearchClient, prefix: string, signal: AbortSignal): Promise<Finding> {
  const path = pathOf(`${prefix}millrace-progress`);
  const answer = await client.request({ method: "GET", path }, signal);
  if (answer.status === 401 || answer.status === 403)
    throw classifyEngine(errorOf(answer), "looking at the sink's indices");
  return ok("elasticsearch.access", "the sink's indices may be read");
}
