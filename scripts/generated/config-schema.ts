import * as z from "zod";
import { connectors } from "../../connectors/registry.ts";
import { topDefinition } from "../../src/config/daemon-definition.ts";
import { SINK_NAME, sinkDefinition, sourceDefinition } from "../../src/config/definition.ts";

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** The JSON Schema of millrace.yaml for editors, from the definitions that validate it. */
export async function configSchemaDocument(): Promise<string> {
  const sources = await Promise.all(
    connectors.sourceKinds.map(async (kind) =>
      partSchema(kind, sourceDefinition.shape, (await connectors.source(kind)).definition),
    ),
  );
  const sinks = await Promise.all(
    connectors.sinkKinds.map(async (kind) =>
      partSchema(kind, sinkDefinition.shape, (await connectors.sink(kind)).definition),
    ),
  );
  const top = schemaOf(topDefinition);
  const { source, sinks: sinkMap } = topDefinition.shape;
  top.properties = {
    ...top.properties,
    source: { description: source.description ?? "", anyOf: sources },
    sinks: {
      description: sinkMap.description ?? "",
      type: "object",
      propertyNames: { pattern: SINK_NAME.source },
      additionalProperties: { anyOf: sinks },
    },
  };
  const document = { ...top, $schema: "http://json-schema.org/draft-07/schema#", title: "millrace.yaml" };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function partSchema(kind: string, common: z.ZodRawShape, definition: z.ZodObject): JsonSchema {
  const { $schema: _, ...schema } = schemaOf(z.strictObject({ ...common, kind: z.literal(kind), ...definition.shape }));
  return { title: kind, ...schema };
}

function schemaOf(definition: z.ZodType): JsonSchema {
  return z.toJSONSchema(definition, {
    target: "draft-7",
    io: "input",
    unrepresentable: "any",
    override: ({ jsonSchema }) => allowReference(jsonSchema),
  });
}

const OR_REFERENCE = "|\\$\\{";

/** Allows `${VAR}` wherever a formatted text, a number or a boolean is expected. Called more than once. */
function allowReference(schema: JsonSchema): void {
  if (schema.pattern !== undefined && !schema.pattern.endsWith(OR_REFERENCE)) schema.pattern += OR_REFERENCE;
  if (schema.type === "integer" || schema.type === "number" || schema.type === "boolean")
    Object.assign(schema, { type: [schema.type, "string"] });
}
