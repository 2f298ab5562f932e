/** The source's own keys of the configuration, and its factory. */
import * as z from "zod";
import { NUMBERED } from "../../../src/core/contracts/positions.ts";
import { systemClock } from "../../../src/core/clock.ts";
import type {
  SourceContext as FactoryContext,
  SourceFactory,
  TableName,
} from "../../../src/core/contracts/connector.ts";
import { TableSelection } from "../../../src/core/table-selection.ts";
import { isInShare, SHARE_COUNT_MAX } from "../../../src/core/sharing/share.ts";
import { accessTo, clusterOf, connectionKeys } from "../connection.ts";
import { groupId } from "../names.ts";
import type { SourceContext } from "./context.ts";

export const sourceDefinition = z.object({
  ...connectionKeys,
  from: z
    .string()
    .min(1)
    .describe("The `name` of the daemon that captures: one of its sinks has `kind: kafka` and `format: log`."),
  shares: z
    .int()
    .min(1)
    .max(SHARE_COUNT_MAX)
    .optional()
    .describe(
      "Into how many shares the tables are divided. All processes with this configuration share them: each applies some, and takes over those of one that is gone. Default: one process applies all tables.",
    ),
});

type KafkaSourceOptions = z.output<typeof sourceDefinition>;

export const sourceFactory: SourceFactory<KafkaSourceOptions> = {
  create: async (context) => {
    const { kafkaSource } = await import("./source.ts");
    return kafkaSource(contextOf(context));
  },
  positions: async () => NUMBERED,
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await check(contextOf(context), signal);
  },
  grants: async (context) => {
    const { aclScripts } = await import("../acls.ts");
    const { sourceAcls } = await import("./check.ts");
    const own = contextOf(context);
    return aclScripts(own.cluster.settings(), sourceAcls(own));
  },
  shareCount: ({ shares }) => shares,
  group: async (context, division) => {
    const { ShareGroup } = await import("./share-group.ts");
    const { clock, cluster, naming, owner } = contextOf(context);
    return new ShareGroup({ clock, cluster, id: groupId(naming, owner), division });
  },
};

function contextOf(context: FactoryContext<KafkaSourceOptions>): SourceContext {
  const { daemon, owner = daemon, folder, options, tables, chosenKey, share } = context;
  const selection = new TableSelection(tables);
  const isShared = ({ schema, table }: TableName): boolean => selection.matches(schema, table);
  return {
    clock: systemClock,
    daemon,
    cluster: accessTo(() => clusterOf(options, folder, `millrace-${daemon}`)),
    naming: { prefix: options.prefix, daemon: options.from },
    captures: (name) => isShared(name) && (share === undefined || isInShare(name, share)),
    isLiteral: ({ schema, table }) => selection.isLiteral(schema, table),
    isShared,
    idle: (names) => selection.idle(names),
    share: share ?? null,
    isDivided: options.shares !== undefined,
    owner,
    chosenKey: chosenKey ?? (() => null),
  };
}
