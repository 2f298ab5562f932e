import { isLongForm } from "../support/run/service-suffixes.ts";
import { lakeConformance } from "./lake.ts";

lakeConformance("sqlite", ["values", "progress", "fence", "rows", "unchanged cells", "tables", "tenants"]);
if (isLongForm()) lakeConformance("duckdb", []);
