import type { Finding, GrantScript } from "../../src/core/contracts/connector.ts";
import { ok } from "../kit/findings.ts";
import { shellWord } from "../../src/core/shell-word.ts";
import type { ClusterSettings } from "./client/cluster.ts";

/** The options of kafka-acls.sh that give something to the user who logs in. */
export function givenTo({ sasl }: ClusterSettings): string {
  return `--add --allow-principal ${shellWord(`User:${sasl?.username ?? "USER"}`)}`;
}

/** The same lines for `check`. */
export function aclFinding(who: string, lines: readonly string[]): Finding {
  return ok("kafka.acls", `with an authorizer the ${who} needs, by kafka-acls.sh: ${lines.join("; ")}`);
}

/** Scripts for `millrace grants`. Asks no broker. */
export function aclScripts({ brokers }: ClusterSettings, lines: readonly string[]): readonly GrantScript[] {
  const to = `kafka-acls.sh --bootstrap-server ${shellWord(brokers[0] ?? "")}`;
  const script = [
    "# Only for a cluster with an authorizer. Further options of the login: --command-config FILE",
    ...lines.map((line) => `${to} ${line}`),
  ];
  return [{ by: "an administrator of the cluster", language: "sh", script: script.join("\n") }];
}
