/** The source's own keys of the configuration, and its factory. */
import * as z from "zod";
import { systemClock } from "../../../src/core/clock.ts";
import type { SourceContext as FactoryContext, SourceFactory } from "../../../src/core/contracts/connector.ts";
import { TableSelection } from "../../../src/core/table-selection.ts";
import { clusterOf, connectionKeys } from "../connection.ts";
import type { SourceContext } from "./context.ts";

export const sourceDefinition = z.object({
  ...connectionKeys,
  from: z
    .string()
    .min(1)
    .describe("The `name` of the daemon that captures: one of its sinks has `kind: kafka` and `format: log`."),
});

export type KafkaSourceOptions = z.output<typeof sourceDefinition>;

export const sourceFactory: SourceFactory<KafkaSourceOptions> = {
  create: async (context) => {
    const { kafkaSource } = await import("./source.ts");
    return kafkaSource(contextOf(context));
  },
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await check(contextOf(context), signal);
  },
};

function contextOf({ daemon, folder, options, tables, chosenKey }: FactoryContext<KafkaSourceOptions>): SourceContext {
  const selection = new TableSelection(tables);
  return {
    clock: systemClock,
    daemon,
    cluster: () => clusterOf(options, folder, `millrace-${daemon}`),
    naming: { prefix: options.prefix, daemon: options.from },
    captures: ({ schema, table }) => selection.matches(schema, table),
    chosenKey: chosenKey ?? (() => null),
  };
}
