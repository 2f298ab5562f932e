import { expect, test } from "vitest";
import * as z from "zod";
import { connectors } from "../../connectors/registry.ts";
import { topDefinition } from "../../src/config/daemon-definition.ts";
import { sinkDefinition, sourceDefinition } from "../../src/config/definition.ts";

const kinds = [
  ...connectors.sourceKinds.map((kind) => ({
    kind: `source ${kind}`,
    load: () => connectors.source(kind),
    common: sourceDefinition,
  })),
  ...connectors.sinkKinds.map((kind) => ({
    kind: `sink ${kind}`,
    load: () => connectors.sink(kind),
    common: sinkDefinition,
  })),
];

test.each(kinds)("$kind: every key is described, and none is a common one", async ({ load, common }) => {
  const { definition } = await load();
  expect(undescribed(definition)).toEqual([]);
  expect(Object.keys(definition.shape).filter((key) => Object.hasOwn(common.shape, key))).toEqual([]);
});

test.each([
  ["top", topDefinition],
  ["source", sourceDefinition],
  ["sink", sinkDefinition],
])("every common key is described: %s", (_part, definition) => {
  expect(undescribed(definition)).toEqual([]);
});

test.each(["duckdb", "postgres"])(
  "%s takes the hard deletes and the mirror, and says that others are not there",
  async (kind) => {
    const connector = await connectors.sink(kind);
    const place = kind === "duckdb" ? { path: "w.duckdb" } : { url: "postgres://127.0.0.1/w" };
    expect(connector.parse({ ...place, deletes: "hard", mode: "mirror" }).kind).toBe("valid");
    for (const [key, value, word] of [
      ["deletes", "gentle", /expected "hard" or "soft"/],
      ["mode", "log", /expected "mirror" or "history"/],
    ] as const) {
      const parsed = connector.parse({ ...place, [key]: value });
      expect(parsed).toMatchObject({
        kind: "invalid",
        issues: [{ path: [key], message: expect.stringMatching(word) }],
      });
    }
  },
);

test("a kind that does not exist is not loaded", async () => {
  await expect(connectors.sink("__proto__")).rejects.toThrow(RangeError);
});

function undescribed(definition: z.ZodObject): string[] {
  const schema = z.toJSONSchema(definition, { io: "input", unrepresentable: "any" });
  return Object.entries(schema.properties ?? {}).flatMap(([key, property]) =>
    typeof property === "object" && (property.description ?? "") !== "" ? [] : [key],
  );
}
