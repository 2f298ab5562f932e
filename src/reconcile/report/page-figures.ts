/** Formats figures for readers. */

export function count(value: number): string {
  return value.toLocaleString("en");
}

export function byteText(byteCount: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  const power = byteCount < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(byteCount) / 10));
  return `${power === 0 ? byteCount : (byteCount / 1024 ** power).toFixed(1)} ${units[power]}`;
}

export function utc(time: string): string {
  return `${time.slice(0, 16).replace("T", " ")} UTC`;
}

export function duration(seconds: number): string {
  if (seconds < 60) return `${Number(seconds.toFixed(1))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
