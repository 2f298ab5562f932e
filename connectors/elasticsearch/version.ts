/** Which search engine answers, and whether it has what the sink relies on. */
import { classifyEngine, searchError } from "./errors.ts";
import { errorOf, fieldOf, parsed, type SearchClient } from "./http.ts";

export interface EngineVersion {
  readonly product: "Elasticsearch" | "OpenSearch";
  readonly number: string;
}

/** The first with `must_exist` in POST /_aliases, on which the fence relies. Every Elasticsearch from 8.0 on has it. */
const OPENSEARCH_MINOR_MIN = 12;

/** Null: the server does not tell, or not this user. */
export async function versionOf(client: SearchClient, signal: AbortSignal): Promise<EngineVersion | null> {
  const answer = await client.request({ method: "GET", path: "/" }, signal);
  if (answer.status === 401) throw classifyEngine(errorOf(answer), "connecting");
  const version = fieldOf(parsed(answer.body), "version");
  const number = fieldOf(version, "number");
  if (typeof number !== "string") return null;
  const isOpenSearch = fieldOf(version, "distribution") === "opensearch";
  return { product: isOpenSearch ? "OpenSearch" : "Elasticsearch", number };
}

export function majorOf({ number }: EngineVersion): number {
  return Number(number.split(".")[0]);
}

/** Throws for one that would refuse the sink only later. */
export function expectUsable(version: EngineVersion | null): void {
  if (version?.product !== "OpenSearch") return;
  const [major = 0, minor = 0] = version.number.split(".").map(Number);
  if (major > 2 || (major === 2 && minor >= OPENSEARCH_MINOR_MIN)) return;
  const message = `OpenSearch ${version.number} does not know \`must_exist\` in POST /_aliases, by which the sink fences its writes`;
  throw searchError("MR2005", "blocked", message, {
    hint: `Use OpenSearch 2.${OPENSEARCH_MINOR_MIN} or newer. Millrace goes on by itself.`,
  });
}
