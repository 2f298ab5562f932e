/** What the daemon of one share has of its own, although all shares have one configuration. */
import { type Division, shareName } from "../core/sharing/share.ts";
import { Routes } from "../routes/routes.ts";
import type { Rules } from "../rules/definition.ts";
import type { SharesConfig, SinkConfig } from "./config.ts";
import type { Address } from "./daemon-definition.ts";

const NAME_LENGTH_MAX = 40;
const PORT_MAX = 65_535;

/** What does not go together with shares, and where. */
interface Misfit {
  readonly path: readonly string[];
  readonly message: string;
}

interface SharesRequest {
  readonly name: string;
  readonly listen: Address | null;
  readonly sinks: readonly SinkConfig[];
}

/** Where a sink puts the tables of several schemas into one, they are kept apart by their names alone. */
export function divisionOf(count: number, sinks: readonly SinkConfig[], { tables }: Pick<Rules, "tables">): Division {
  const routes = new Routes(tables.filter(({ into }) => into !== null));
  const by = sinks.some(({ connector }) => connector.divides === "name") ? "name" : "id";
  return routes.text === "" ? { count, by } : { count, by, routes };
}

export function misfits(count: number, { name, listen, sinks }: SharesRequest): readonly Misfit[] {
  const path = ["source", "shares"];
  const length = NAME_LENGTH_MAX - shareName("", count).length;
  const alone = sinks.filter(({ connector }) => connector.divides === undefined);
  return [
    ...(name.length <= length
      ? []
      : [{ path: ["name"], message: `with ${count} shares expected at most ${length} characters` }]),
    ...(listen === null || listen.port + count - 1 <= PORT_MAX
      ? []
      : [{ path: ["admin", "listen"], message: `with ${count} shares expected a port up to ${PORT_MAX - count + 1}` }]),
    ...alone.map((sink) => ({
      path: ["sinks", sink.name],
      message: `a ${sink.kind} sink is written by one daemon; take it out of this file, or \`${path.join(".")}\``,
    })),
  ];
}

/** Each share's daemon has the next port. */
export function addressOfShare(listen: Address | null, shares: SharesConfig | null): Address | null {
  if (listen === null || shares === null || shares.number === null) return listen;
  return { ...listen, port: listen.port + shares.number - 1 };
}
