/** Options of kafka-acls.sh, as `check` prints them, as the requests that it would make of them. */
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
  const lines = text.slice(text.indexOf("--add")).split("; ");
  return lines.flatMap((line) => {
    const args = line.split(" ").map((word) => word.replaceAll("'", ""));
    const { values } = parseArgs({
      args,
      options: {
        add: { type: "boolean" },
        "allow-principal": { type: "string" },
        operation: { type: "string", multiple: true },
        "resource-pattern-type": { type: "string" },
        topic: { type: "string" },
        "transactional-id": { type: "string" },
      },
    });
    const isPrefixed = values["resource-pattern-type"] === "prefixed";
    return values.operation!.map((operation) => ({
      resourceType: values.topic === undefined ? ResourceTypes.TRANSACTIONAL_ID : ResourceTypes.TOPIC,
      resourceName: (values.topic ?? values["transactional-id"])!,
      resourcePatternType: isPrefixed ? ResourcePatternTypes.PREFIXED : ResourcePatternTypes.LITERAL,
      principal: values["allow-principal"]!,
      host: "*",
      operation: AclOperations[labelOf(operation)],
      permissionType: AclPermissionTypes.ALLOW,
    }));
  });
}

/** `DescribeConfigs` is DESCRIBE_CONFIGS. */
function labelOf(operation: string): AclOperationLabel {
  const label = operation.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  const found = Object.keys(AclOperations).find((one): one is AclOperationLabel => one === label);
  if (found === undefined) throw new Error(`kafka-acls.sh knows no operation ${operation}`);
  return found;
}
