/**
 * The stage for runtime.test.js: two real load balancers, one of which asks for certificates, the real Workers runtime
 * in front of them, and a shim that can break a connection between. Everything listens on loopback, on ports that the
 * system chose.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SIGNERS } from "./signers.js";

const KIT = fileURLToPath(new URL("..", import.meta.url));
const START_MS_MAX = 15_000;
/** The oldest one that the README promises. */
const COMPATIBILITY_DATE = "2024-09-23";
const API_KEY = "visitor-key-of-the-example";
/** A JSON string is one of YAML and of Cap'n Proto, too. */
const text = JSON.stringify;
const run = promisify(execFile);
const lines = (jsonl) => jsonl.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));

/** Why the stage cannot be set, or null. */
export function missing() {
  if (!process.env.BELAY_BIN) return "BELAY_BIN does not name the load balancer's binary";
  return runtimeBinary() === null ? "the npm package workerd is not installed (npm ci)" : null;
}

export class Stage {
  #children = [];
  #folder;
  #shim;
  #ports = new Map();

  static async open() {
    const stage = new Stage();
    stage.#cleanUpOnExit();
    try {
      await stage.#start();
      return stage;
    } catch (error) {
      await stage.close();
      throw error;
    }
  }

  async #start() {
    this.#folder = await mkdtemp(path.join(tmpdir(), "edge-worker-"));
    this.belay = await this.#startBelay();
    this.alone = await this.#startBelayWithoutCertificates();
    this.#shim = await Shim.open(this.belay.address);
    await this.#startRuntime(await this.#troupe());
  }

  /** What one Worker answers to one plan (see probe.js). */
  async ask(worker, plan) {
    const response = await this.visit(worker, "/", { method: "POST", body: JSON.stringify(plan) });
    return response.json();
  }

  /** A visitor's plain request to one Worker. */
  visit(worker, target, init) {
    return fetch(`http://127.0.0.1:${this.#ports.get(worker)}${target}`, init);
  }

  url(target) {
    return `https://${this.belay.authority}${target}`;
  }

  /** Of the load balancer that asks for no certificates. */
  urlAlone(target) {
    return `https://${this.alone.authority}${target}`;
  }

  get shim() {
    return this.#shim;
  }

  get apiKey() {
    return API_KEY;
  }

  async auditLines(rid) {
    const text = await readFile(this.belay.audit, "utf8");
    return text.split("\n").filter((line) => line.includes(rid));
  }

  /** One step of `belay keys rotate`: what it says. */
  async rotate(workload, ...more) {
    const args = ["keys", "rotate", workload, "--json", "-c", this.belay.config, ...more];
    const { stdout } = await run(process.env.BELAY_BIN, args, { cwd: this.#folder });
    return JSON.parse(stdout);
  }

  /** The same Worker in a runtime of its own, with another secret: what a deployed secret comes to. */
  async redeploy(worker, secret, name) {
    const [text] = await readAll([path.resolve(this.#folder, secret)]);
    const known = (await this.#troupe()).find((member) => member.name === worker);
    const vars = { ...known.vars, EDGE_IDENTITY: JSON.parse(text) };
    await this.#startRuntime([{ ...known, name, vars }]);
  }

  /** The edge's lines beside all that the load balancer has recorded of requests up to now. */
  async join(edge) {
    const [worker, log] = ["worker.jsonl", "audit.jsonl"].map((name) => path.join(this.#folder, `copy-of-${name}`));
    const all = await readFile(this.belay.audit, "utf8");
    const whole = all.slice(0, all.lastIndexOf("\n") + 1);
    await writeFile(worker, edge.map((line) => `${text(line)}\n`).join(""));
    await writeFile(log, whole);
    const args = ["audit", "query", "--action", "request", "--join", worker, log];
    const { stdout } = await run(process.env.BELAY_BIN, args, { maxBuffer: 64 * 1024 * 1024 });
    const ours = lines(whole).filter(({ event }) => ["decision", "outcome"].includes(event.action));
    return { rows: lines(stdout), ours };
  }

  async close() {
    this.#shim?.close();
    await Promise.all(this.#children.map(stop));
    if (this.#folder) await rm(this.#folder, { recursive: true, force: true });
  }

  /** `after` does not run when the whole test run is stopped, or nobody reads what it prints. */
  #cleanUpOnExit() {
    process.once("exit", () => {
      for (const child of this.#children) child.kill("SIGKILL");
      if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
    });
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));
    process.stdout.once("error", () => process.exit(1));
  }

  async #startBelay() {
    const child = this.#spawn(process.env.BELAY_BIN, ["demo", "--json"], ["ignore", "pipe", "inherit"]);
    return within(START_MS_MAX, "belay demo's first line", firstJsonLine(child, child.stdout));
  }

  /** It shares its name, its certificate and its origins with the demo, and knows a workload for each algorithm. */
  async #startBelayWithoutCertificates() {
    const [demo] = await readAll([this.belay.config]);
    const config = path.join(this.#folder, "belay.yaml");
    await writeFile(config, configAlone(this.belay.folder, /address: (127\S+)/.exec(demo)[1]));
    for (const [alg, { known }] of Object.entries(SIGNERS)) {
      await writeFile(path.join(this.#folder, keyFile(alg)), known.file, { mode: 0o600 });
    }
    const child = this.#spawn(process.env.BELAY_BIN, ["run", "--json", "-c", config], ["ignore", "pipe", "inherit"]);
    const { listeners } = await within(START_MS_MAX, "belay run's first line", firstJsonLine(child, child.stdout));
    const { address } = listeners[0];
    return { address, authority: `shop.example.com:${address.split(":").pop()}` };
  }

  /** The runtime reports each port on a descriptor of its own, so that nothing has to be guessed or polled. */
  async #startRuntime(troupe) {
    const config = path.join(this.#folder, `${troupe[0].name}.capnp`);
    await writeFile(config, troupe.map(workerConfig).join("") + configFrame(troupe));
    const stdio = ["ignore", "inherit", "inherit", "pipe"];
    const child = this.#spawn(runtimeBinary(), ["serve", config, "--control-fd=3"], stdio);
    await within(START_MS_MAX, "the runtime's ports", this.#readPorts(child, troupe.length));
  }

  async #readPorts(child, count) {
    const gone = failure(child);
    const lines = createInterface({ input: child.stdio[3] })[Symbol.asyncIterator]();
    const wanted = this.#ports.size + count;
    while (this.#ports.size < wanted) {
      const { value, done } = await Promise.race([lines.next(), gone]);
      if (done) throw new Error("the runtime closed its control descriptor");
      const { event, socket, port } = JSON.parse(value);
      if (event === "listen") this.#ports.set(socket, port);
    }
  }

  #spawn(command, args, stdio) {
    const child = spawn(command, args, { stdio });
    this.#children.push(child);
    return child;
  }

  /** One Worker per way of being right or wrong; all but `example` run the probe. */
  async #troupe() {
    const { address, authority, workers } = this.belay;
    const checkout = await identity(workers.checkout);
    const [kit, main, exampleMain] = await readAll(["edge-worker.js", "test/probe.js", "example/worker.js"], KIT);
    const [ca] = await readAll([this.belay.ca]);
    const probe = { kit, main, ca, address };
    const exampleVars = { ...checkout.vars, ORIGIN_URL: `https://${authority}`, API_KEY };
    return [
      { ...probe, name: "checkout", ...checkout },
      { ...probe, name: "shimmed", ...checkout, address: this.#shim.address },
      { ...probe, name: "bare", ...checkout, cert: null },
      { ...probe, name: "rogue", ...(await identity(workers.rogue)) },
      { ...probe, name: "forger", ...(await identity(workers.forger)) },
      { ...probe, name: "reports", ...(await identity(workers.reports)) },
      { ...probe, name: "example", ...checkout, main: exampleMain, vars: exampleVars },
      ...Object.keys(SIGNERS).map((alg) => ({ ...probe, address: this.alone.address, ...withoutCertificate(alg) })),
    ];
  }
}

/**
 * A TCP relay that loses an answer on command: it delivers the next bytes of a connection that is already open and then
 * breaks off towards the runtime only, so that the load balancer has the request and nobody has the answer.
 */
export class Shim {
  connections = 0;
  cuts = 0;
  #armed = false;
  #sockets = new Set();

  static async open(target) {
    const [host, port] = target.split(":");
    const shim = new Shim();
    shim.server = net.createServer((client) => shim.#relay(client, net.connect(Number(port), host)));
    await once(shim.server.listen(0, "127.0.0.1"), "listening");
    shim.address = `127.0.0.1:${shim.server.address().port}`;
    return shim;
  }

  cutNextReuse() {
    this.#armed = true;
  }

  close() {
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #relay(client, upstream) {
    this.connections += 1;
    let answered = false;
    for (const socket of [client, upstream]) this.#track(socket);
    client.on("data", (bytes) => {
      upstream.write(bytes);
      if (this.#armed && answered) this.#cut(client, upstream);
    });
    upstream.on("data", (bytes) => {
      answered = true;
      client.write(bytes);
    });
    client.on("end", () => upstream.end());
    upstream.on("close", () => client.end());
  }

  #cut(client, upstream) {
    this.#armed = false;
    this.cuts += 1;
    client.removeAllListeners("end").destroy();
    // The load balancer finishes as if all were well; what it says goes nowhere.
    upstream.removeAllListeners("data").on("data", () => upstream.end());
  }

  #track(socket) {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    // A connection that breaks is what this shim is for.
    socket.on("error", () => socket.destroy());
  }
}

async function identity({ env, cert, key }) {
  const [vars, certificateChain, privateKey] = await readAll([env, cert, key]);
  return { vars: JSON.parse(vars), cert: { certificateChain, privateKey } };
}

function readAll(files, folder = "/") {
  return Promise.all(files.map((file) => readFile(path.resolve(folder, file), "utf8")));
}

// ---- the load balancer that asks for no certificates --------------------------------------------------------------

const ISSUER = "https://edge.example.com/alone";
const AUDIENCE = "https://alone.example.com";

/** The load balancer's name for the workload; the runtime's names must begin with a small letter, too. */
export function workloadOf(alg) {
  return alg.toLowerCase();
}

function subjectOf(alg) {
  return `spiffe://example.com/worker/${workloadOf(alg)}`;
}

function keyFile(alg) {
  return `${workloadOf(alg)}.known`;
}

function withoutCertificate(alg) {
  const EDGE_IDENTITY = { kid: `${alg}-1`, alg, key: SIGNERS[alg].key };
  const names = { EDGE_ISSUER: ISSUER, EDGE_AUDIENCE: AUDIENCE, EDGE_SUBJECT: subjectOf(alg) };
  return { name: workloadOf(alg), vars: { EDGE_IDENTITY, ...names, EDGE_CERTIFICATE_THUMBPRINT: "" }, cert: null };
}

function configAlone(demo, origin) {
  const route = (name, profile, algorithms) => `
  - name: ${name}
    match: { host: shop.example.com, path: /${name}/** }
    identity: ${profile}
    allow: [${algorithms.map(workloadOf).join(", ")}]
    pool: shop`;
  const keyPairs = Object.keys(SIGNERS).filter((alg) => alg !== "HS256");
  return `version: 1
listeners:
  edge:
    bind: ["127.0.0.1:0"]
    identity: jwt
    tls:
      certificates: [{ cert: ${text(`${demo}/certs/lb.pem`)}, key: ${text(`file:${demo}/keys/lb.tls.pem`)} }]
edge: { issuer: ${text(ISSUER)}, audience: ${text(AUDIENCE)} }
workloads:${Object.keys(SIGNERS).map(workloadConfig).join("")}
routes:${route("orders", "jwt", keyPairs)}${route("secrets", "psk", ["HS256"])}
pools:
  shop:
    servers: [{ name: a, address: ${text(origin)} }]
audit: { file: audit.jsonl }
`;
}

function workloadConfig(alg) {
  const today = new Date().toISOString().slice(0, 10);
  const file = text(`file:${keyFile(alg)}`);
  const key = alg === "HS256" ? `secret: ${file}, created: ${today}` : `key: ${file}`;
  return `
  ${workloadOf(alg)}:
    id: ${text(subjectOf(alg))}
    keys: [{ kid: ${alg}-1, ${key} }]
    may_assert: [country]`;
}

// ---- the runtime's configuration ----------------------------------------------------------------------------------

function configFrame(troupe) {
  const list = (each) => troupe.map(({ name }) => each(name)).join(",\n    ");
  const worker = (name) => `(name = "${name}", worker = .${name})`;
  const origin = (name) => `(name = "${name}-origin", external = .${name}Origin)`;
  const socket = (name) => `(name = "${name}", address = "127.0.0.1:0", http = (), service = "${name}")`;
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    ${list(worker)},
    ${list(origin)},
  ],
  sockets = [
    ${list(socket)},
  ],
);
`;
}

function workerConfig({ name, main, kit, vars, address, cert, ca }) {
  const bindings = Object.entries(vars).map(([key, value]) => `(name = ${text(key)}, text = ${text(asText(value))})`);
  return `
const ${name} :Workerd.Worker = (
  compatibilityDate = "${COMPATIBILITY_DATE}",
  modules = [
    (name = "example/worker.js", esModule = ${text(main)}),
    (name = "${kitPath(main)}", esModule = ${text(kit)}),
  ],
  bindings = [(name = "ORIGIN", service = "${name}-origin"), ${bindings.join(", ")}],
);
const ${name}Origin :Workerd.ExternalServer = (
  address = "${address}",
  https = (
    tlsOptions = (${cert === null ? "" : keypair(cert)} trustedCertificates = [${text(ca)}]),
    certificateHost = "shop.example.com",
  ),
);
`;
}

function keypair({ privateKey, certificateChain }) {
  return `keypair = (privateKey = ${text(privateKey)}, certificateChain = ${text(certificateChain)}),`;
}

/** The example imports the kit from the folder above, the probe from its own. */
function kitPath(main) {
  return main.includes(`"../edge-worker.js"`) ? "edge-worker.js" : "example/edge-worker.js";
}

/** As `wrangler secret put` stores it. */
function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

// ---- processes ----------------------------------------------------------------------------------------------------

/** The package knows where its platform's binary is; npm's link to it depends on an install script. */
function runtimeBinary() {
  try {
    return createRequire(import.meta.url)("workerd").default;
  } catch {
    return null;
  }
}

async function firstJsonLine(child, stream) {
  const lines = createInterface({ input: stream });
  const [line] = await Promise.race([once(lines, "line"), failure(child)]);
  // Read on, or a full pipe would stop the child.
  lines.on("line", () => {});
  return JSON.parse(line);
}

/** Never resolves; rejects when the child cannot be started or ends. */
function failure(child) {
  const gone = new Promise((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => reject(new Error(`${child.spawnfile} ended early (${code ?? signal})`)));
  });
  gone.catch(() => {});
  return gone;
}

async function stop(child) {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGTERM");
  const force = setTimeout(() => child.kill("SIGKILL"), 2000);
  await exit;
  clearTimeout(force);
}

async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Tries until `probe` gives something true; there are no fixed waits. */
export async function eventually(what, probe, ms = START_MS_MAX) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what} did not come within ${ms} ms`);
    await new Promise((resume) => setTimeout(resume, 20));
  }
}
