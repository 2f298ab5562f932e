/** All servers by name. */
import { chromium } from "./chromium.ts";
import { clickhouse } from "./clickhouse.ts";
import { elasticsearch, elasticsearch9 } from "./elasticsearch.ts";
import { kafka } from "./kafka.ts";
import { mariadb } from "./mariadb.ts";
import { mysql } from "./mysql.ts";
import { opensearch, opensearch3 } from "./opensearch.ts";
import { postgres } from "./postgres.ts";
import { registry } from "./registry.ts";
import { prometheus } from "./prometheus.ts";
import { redis, redis8, valkey } from "./redis.ts";
import { s3 } from "./s3.ts";
import type { ServiceDefinition, ServiceName } from "./service.ts";

const definitions: Readonly<Record<ServiceName, ServiceDefinition>> = {
  postgres,
  mysql,
  mariadb,
  redis,
  redis8,
  valkey,
  elasticsearch,
  elasticsearch9,
  opensearch,
  opensearch3,
  kafka,
  clickhouse,
  registry,
  chromium,
  prometheus,
  s3,
};

export const serviceNames: readonly ServiceName[] = Object.values(definitions).map(({ name }) => name);

export function definitionOf(name: ServiceName): ServiceDefinition {
  return definitions[name];
}
