/** The role that the sink's user or API key needs. */
import type { GrantScript } from "../../src/core/contracts/connector.ts";
import { shellWord } from "../../src/core/shell-word.ts";

const INDEX_PRIVILEGES = ["read", "index", "delete", "create_index", "manage", "view_index_metadata"];

/** A role on the indices of the prefix. Index names come from tables, so without a prefix it is on all indices. */
export function grants(url: string, prefix: string, role: string): readonly GrantScript[] {
  const names = [`${prefix}*`];
  const body = { cluster: ["monitor"], indices: [{ names, privileges: INDEX_PRIVILEGES }] };
  const openSearch = {
    cluster_permissions: ["cluster_monitor"],
    index_permissions: [{ index_patterns: names, allowed_actions: INDEX_ACTIONS }],
  };
  const { origin } = new URL(url);
  const put = (path: string, document: object) =>
    `curl -u ADMIN -X PUT ${shellWord(`${origin}${path}`)} -H 'content-type: application/json' -d ${shellWord(JSON.stringify(document))}`;
  const script = [
    ...(prefix === "" ? ["# The sink has no prefix, so the role is on all indices: `prefix` would narrow it."] : []),
    "# Elasticsearch; then give the role to the sink's user, or make an API key with it:",
    put(`/_security/role/${role}`, body),
    "# OpenSearch; then map the role to the sink's user:",
    `# ${put(`/_plugins/_security/api/roles/${role}`, openSearch)}`,
  ];
  return [{ by: "an administrator of the engine", language: "sh", script: script.join("\n") }];
}

/** OpenSearch's names for the same. */
const INDEX_ACTIONS = ["read", "write", "delete", "create_index", "manage", "get"];
