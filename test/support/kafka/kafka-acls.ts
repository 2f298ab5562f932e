/** Options of kafka-acls.sh, as `check` and `grants` print them, as the requests that it would make of them. */
import { parseArgs } from "node:util";
import {
  type Acl,
  AclOperations,
  AclPermissionTypes,
  type AclOperationLabel,
  ResourcePatternTypes,
  ResourceTypes,
} from "@platformatic/kafka";

export function printedAcls(text: string): readonly Acl[] {
  const lines = text.split(/; |\n/).filter((line) => line.includes("--add"));
  return lines.flatMap((whole) => {
    const line = whole.slice(whole.indexOf("--add"));
    const args = line.split(" ").map((word) => word.replaceAll("'", ""));
    const { values } = parseArgs({
      args,
      options: {
        add: { type: "boolean" },
        "allow-principal": { type: "string" },
        operation: { type: "string", multiple: true },
        "resource-pattern-type": { type: "string" },
        topic: { type: "string", multiple: true },
        "transactional-id": { type: "string" },
        group: { type: "string" },
      },
    });
    const isPrefixed = values["resource-pattern-type"] === "prefixed";
    const resourceType =
      values.topic !== undefined
        ? ResourceTypes.TOPIC
        : values.group !== undefined
          ? ResourceTypes.GROUP
          : ResourceTypes.TRANSACTIONAL_ID;
    const names = values.topic ?? [(values.group ?? values["transactional-id"])!];
    return values.operation!.flatMap((operation) =>
      names.map((resourceName) => ({
        resourceType,
        resourceName,
        resourcePatternType: isPrefixed ? ResourcePatternTypes.PREFIXED : ResourcePatternTypes.LITERAL,
        principal: values["allow-principal"]!,
        host: "*",
        operation: AclOperations[labelOf(operation)],
        permissionType: AclPermissionTypes.ALLOW,
      })),
    );
  });
}

/** `DescribeConfigs` is DESCRIBE_CONFIGS. */
function labelOf(operation: string): AclOperationLabel {
  const label = operation.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  const found = Object.keys(AclOperations).find((one): one is AclOperationLabel => one === label);
  if (found === undefined) throw new Error(`kafka-acls.sh knows no operation ${operation}`);
  return found;
}
