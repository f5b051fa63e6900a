// onnxruntime-web, on one thread of WebAssembly: in node as `node web.mjs REQUEST.json`, in a browser from page.html.

export async function measured(ort, request, model, inputs) {
  const start = performance.now();
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: 4 });
  const answer = { version: ort.env.versions.web, load_seconds: (performance.now() - start) / 1e3 };

  const [count, ...rest] = request.shape;
  const size = rest.reduce((product, length) => product * length, 1);
  const call = async (number) => {
    const values = inputs.subarray(number * size, (number + 1) * size);
    const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", values, [1, ...rest]) };
    return (await session.run(feeds))[session.outputNames[0]].data;
  };
  const rows = [];
  for (let number = 0; number < count; number++) rows.push(...(await call(number)));

  const times = [];
  const end = performance.now() + 1e3 * request.seconds;
  while (!times.length || performance.now() < end) {
    const begin = performance.now();
    await call(0);
    times.push(performance.now() - begin);
  }
  answer.milliseconds = times.sort((one, other) => one - other)[times.length >> 1];
  return [answer, Float32Array.from(rows)];
}

if (typeof process !== "undefined") {
  const { readFileSync, writeFileSync } = await import("node:fs");
  const { createRequire } = await import("node:module");
  const ort = createRequire(`${process.cwd()}/`)("onnxruntime-web");
  const request = JSON.parse(readFileSync(process.argv[2]));
  const inputs = new Float32Array(new Uint8Array(readFileSync(request.inputs)).buffer);
  const [answer, outputs] = await measured(ort, request, readFileSync(request.model), inputs);
  writeFileSync(request.outputs, outputs);
  console.log(`\n${JSON.stringify(answer)}`);
  process.exit(0);
}
