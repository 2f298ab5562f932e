/** Frees the memory of an unused buffer at once: the garbage collector would run only a hundred megabytes later. */
export function giveBack({ buffer, length }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === length) buffer.transfer(0);
}
