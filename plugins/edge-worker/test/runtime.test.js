/**
 * The kit in the real Workers runtime, before a real load balancer (`BELAY_BIN demo`). Without either of them the tests
 * are skipped; BELAY_TEST_ALL=1 makes that a failure.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { SIGNERS } from "./signers.js";
import { eventually, missing, Stage, workloadOf } from "./stage.js";

const reason = missing();
if (reason !== null) console.log(`SKIPPED: runtime tests: ${reason}`);
if (reason !== null && process.env.BELAY_TEST_ALL === "1") throw new Error(`BELAY_TEST_ALL=1, but ${reason}`);

/** One text for one line of a log. */
const text = (line) => JSON.stringify(line);

const GET = { method: "GET", target: "/orders/7" };
const POST = { method: "POST", target: "/orders/new", body: `{"item":7}` };

describe("in the Workers runtime", { skip: reason ?? false, timeout: 60_000 }, () => {
  /** @type {Stage} */
  let stage;

  before(async () => {
    stage = await Stage.open();
    // A load balancer that has just started may refuse what cannot be repeated for some seconds (`stale_token`).
    const accepted = async () => (await originFetch("checkout", POST)).answer.status === 200;
    await eventually("the first accepted POST", accepted);
  });
  after(() => stage?.close());

  /** The plans name targets; the authority is known once the load balancer runs. */
  const plan = ({ target, ...request }) => ({ url: stage.url(target), ...request });

  const originFetch = async (worker, request, more = {}) => {
    const { answers, log } = await stage.ask(worker, { request: plan(request), ...more });
    return { answer: answers[0], log, echo: answers[0].status === 200 ? JSON.parse(answers[0].body) : null };
  };

  const sendSigned = async (worker, request, sends, more = {}) => {
    const { answers } = await stage.ask(worker, { request: plan(request), sends: sends.map(plan), ...more });
    return answers;
  };

  const decisions = (rid, count) =>
    eventually(`${count} audit lines of ${rid}`, async () => (await stage.auditLines(rid)).length >= count);

  describe("what is let in", () => {
    test("a GET, and the origin learns who sent it", async () => {
      const { answer, echo, log } = await originFetch("checkout", GET);
      assert.equal(answer.status, 200, answer.body);
      assert.equal(echo.method, "GET");
      assert.equal(echo.path, GET.target);
      assert.equal(echo.headers["belay-workload"], "checkout");
      assert.equal(echo.headers["x-request-id"], log[0].rid);
      assert.equal(echo.headers["edge-identity"], undefined);
    });

    test("a POST with its body", async () => {
      const { answer, echo } = await originFetch("checkout", POST);
      assert.equal(answer.status, 200, answer.body);
      assert.equal(echo.method, "POST");
      assert.equal(echo.body_bytes, POST.body.length);
    });

    test("a body that is too long to be held", async () => {
      const body = "x".repeat(200_000);
      const { answer, echo } = await originFetch("checkout", { ...POST, body });
      assert.equal(answer.status, 200, answer.body);
      assert.equal(echo.body_bytes, body.length);
    });

    test("a target that servers could read in two ways is refused, not repaired", async () => {
      const { answer } = await originFetch("checkout", { ...GET, target: "/orders/a;b" });
      assert.equal(answer.status, 400, JSON.stringify(answer));
    });

    for (const target of ["/orders/7?", "/orders/7?a=1&&=&a=%7e+%20", "/orders/a%20b,c=d@e"]) {
      test(`the target ${target}, byte for byte`, async () => {
        const { answer, echo } = await originFetch("checkout", { ...GET, target });
        assert.equal(answer.status, 200, JSON.stringify(answer));
        assert.equal(echo.path, target);
      });
    }

    for (const target of ["/orders/a%2Fb", "/orders//x", "/orders/[x]|`{}?^|[]`{}"]) {
      test(`the odd target ${target}: its signature fits, whatever the route says`, async () => {
        const { answer } = await originFetch("checkout", { ...GET, target });
        assert.notEqual(answer.status, 401, JSON.stringify(answer));
      });
    }
  });

  describe("what is refused", () => {
    const strangers = [
      ["no client certificate", "bare"],
      ["a certificate with the same name from another CA", "rogue"],
      ["the right certificate and another token key", "forger"],
    ];
    for (const [name, worker] of strangers) {
      test(`${name}: 401`, async () => {
        const { answer } = await originFetch(worker, GET);
        assert.equal(answer.status, 401, JSON.stringify(answer));
        assert.match(answer.headers["www-authenticate"], /^EdgeIdentity /);
      });
    }

    test("another workload, proven but not allowed here: 403", async () => {
      const { answer } = await originFetch("reports", GET);
      assert.equal(answer.status, 403, JSON.stringify(answer));
    });

    test("no token at all: 401", async () => {
      const [answer] = await sendSigned("checkout", GET, [GET], { unsigned: true });
      assert.equal(answer.status, 401);
    });

    test("a token of an hour ago: 401", async () => {
      const { answer } = await originFetch("checkout", GET, { age: 3600 });
      assert.equal(answer.status, 401);
      assert.match(answer.headers["www-authenticate"], /error_description="expired"/);
    });

    test("a POST with a token that has been used: 200, then 401", async () => {
      const [first, second] = await sendSigned("checkout", POST, [POST, POST]);
      assert.equal(first.status, 200, JSON.stringify(first));
      assert.equal(second.status, 401);
      assert.match(second.headers["www-authenticate"], /error_description="replay"/);
    });

    const misused = [
      ["another path", { ...GET, target: "/orders/8" }],
      ["another query", { ...GET, target: "/orders/7?q=2" }],
      ["a query where none was signed", { ...GET, target: "/orders/7?" }],
      ["another method", { ...POST, target: GET.target }],
    ];
    for (const [name, send] of misused) {
      test(`a token on ${name}: 401`, async () => {
        const [answer] = await sendSigned("checkout", GET, [send]);
        assert.equal(answer.status, 401, JSON.stringify(answer));
        assert.match(answer.headers["www-authenticate"], /error_description="binding"/);
      });
    }
  });

  const routes = [
    ["a public route asks for no proof", "bare", "/status", 200],
    ["no route, proven", "checkout", "/nothing", 404],
    ["no route, not proven", "bare", "/nothing", 401],
  ];
  for (const [name, worker, target, status] of routes) {
    test(`${name}: ${status}`, async () => {
      const { answers } = await stage.ask(worker, { request: plan({ method: "GET", target }) });
      assert.equal(answers[0].status, status, JSON.stringify(answers[0]));
    });
  }

  describe("a signed body", () => {
    const options = { bodyDigest: true };

    for (const [name, request] of [["no body", GET], ["a body", POST]]) {
      test(`${name}, beside a certificate: 200`, async () => {
        const { answer, echo } = await originFetch("checkout", request, { options });
        assert.equal(answer.status, 200, JSON.stringify(answer));
        assert.equal(echo.body_bytes, request.body?.length ?? 0);
      });
    }

    test("another body under its token: 401", async () => {
      const [answer] = await sendSigned("checkout", POST, [{ ...POST, body: `{"item":8}` }], { options });
      assert.equal(answer.status, 401, JSON.stringify(answer));
    });

    test("is too long to be held: nothing is sent", async () => {
      const { answer, log } = await originFetch("checkout", { ...POST, body: "x".repeat(65_537) }, { options });
      assert.equal(answer.status, null);
      assert.match(answer.error, /the body is over 65536 bytes/);
      assert.deepEqual(log, []);
    });
  });

  describe("a Worker without a certificate", () => {
    const path = (alg) => (alg === "HS256" ? "/secrets" : "/orders");
    const otherPath = (alg) => (alg === "HS256" ? "/orders" : "/secrets");
    const ask = async (alg, target, request = {}, options = {}) => {
      const plans = { request: { url: stage.urlAlone(target), ...request }, options };
      const { answers } = await stage.ask(workloadOf(alg), plans);
      return answers[0];
    };
    const post = { method: "POST", body: POST.body };

    before(async () => {
      const accepted = async () => (await ask("HS256", "/secrets/new", post)).status === 200;
      await eventually("the first accepted POST without a certificate", accepted);
    });

    for (const alg of Object.keys(SIGNERS)) {
      for (const [name, request] of [["GET", {}], ["POST", post]]) {
        test(`${alg}, ${name}: 200`, async () => {
          const answer = await ask(alg, `${path(alg)}/7`, request);
          assert.equal(answer.status, 200, JSON.stringify(answer));
          const { headers, body_bytes } = JSON.parse(answer.body);
          assert.equal(headers["belay-workload"], workloadOf(alg));
          assert.equal(body_bytes, request.body?.length ?? 0);
        });
      }

      const asserted = { claims: { country: ["NZ"] }, cip: "2001:DB8::0:7", ohost: "WWW.Example.com." };
      test(`${alg}, facts, address and host in the form that the load balancer reads: 200`, async () => {
        const answer = await ask(alg, `${path(alg)}/7`, {}, asserted);
        assert.equal(answer.status, 200, JSON.stringify(answer));
      });

      const refused = [
        ["on a route for the other kind of key", otherPath(alg), {}],
        ["without the body's digest", path(alg), { bodyDigest: false }],
        ["asserting what its key may not", path(alg), { claims: { admin: true } }],
      ];
      for (const [name, folder, options] of refused) {
        test(`${alg}, ${name}: 401`, async () => {
          const answer = await ask(alg, `${folder}/7`, post, options);
          assert.equal(answer.status, 401, JSON.stringify(answer));
        });
      }
    }
  });

  describe("the example Worker", () => {
    const visitor = (headers) => stage.visit("example", "/orders/7?q=1", { headers });

    test("tells a visitor that his URL is too long to be signed", async () => {
      const headers = { Authorization: `Bearer ${stage.apiKey}` };
      const response = await stage.visit("example", `/orders/${"7".repeat(6000)}`, { headers });
      assert.equal(response.status, 414);
      assert.equal(await response.text(), "uri too long\n");
    });

    test("forwards a visitor who has the key, without what he forged", async () => {
      const forged = { "Belay-Workload": "forged", belay_roles: "forged", "Edge-Identity": "forged" };
      const response = await visitor({ ...forged, Authorization: `Bearer ${stage.apiKey}` });
      assert.equal(response.status, 200);
      const { headers, path } = await response.json();
      assert.equal(path, "/orders/7?q=1");
      assert.equal(headers["belay-workload"], "checkout");
      for (const name of ["belay_roles", "edge-identity", "authorization"]) {
        assert.equal(headers[name], undefined, name);
      }
      assert.doesNotMatch(JSON.stringify(headers), /forged/);
    });

    for (const [name, headers] of [["no key", {}], ["another key", { Authorization: "Bearer x" }]]) {
      test(`refuses a visitor with ${name} by itself`, async () => {
        const response = await visitor(headers);
        assert.equal(response.status, 401);
        assert.equal(response.headers.get("WWW-Authenticate"), "Bearer");
      });
    }
  });

  describe("when a kept-alive connection dies", () => {
    /** The first answer shows that a connection is open; the next request on it will lose its answer. */
    const afterLoss = async (request) => {
      assert.equal((await originFetch("shimmed", GET)).answer.status, 200);
      const cuts = stage.shim.cuts;
      stage.shim.cutNextReuse();
      const result = await originFetch("shimmed", request);
      assert.equal(stage.shim.cuts, cuts + 1, "the shim was to break one connection");
      return result;
    };

    test("the runtime repeats a GET with the same token, and that is let in", async () => {
      const { answer, log } = await afterLoss(GET);
      assert.equal(answer.status, 200, JSON.stringify(answer));
      // The kit sent once, so the two requests that the load balancer saw carried one token.
      assert.equal(log.length, 1);
      await decisions(log[0].rid, 2);
    });

    test("a POST with an Idempotency-Key is signed again", async () => {
      const { answer, log } = await afterLoss({ ...POST, headers: { "Idempotency-Key": "order-7" } });
      assert.equal(answer.status, 200, JSON.stringify(answer));
      assert.deepEqual(log.map(({ attempt, status }) => [attempt, status]), [[1, null], [2, 200]]);
      assert.notEqual(log[0].jti_sha256, log[1].jti_sha256);
      await decisions(log[0].rid, 2);
    });

    test("a POST without one is not, and the caller learns of it", async () => {
      const { answer, log } = await afterLoss(POST);
      assert.equal(answer.status, null);
      assert.deepEqual(log.map(({ attempt, status }) => [attempt, status]), [[1, null]]);
    });
  });

  // An id in a token that proved nothing may be anyone's invention, so that only proven ones have to be there.
  for (const [worker, request] of [["checkout", GET], ["checkout", POST], ["reports", GET]]) {
    test(`both audit trails know the request id of ${worker}'s ${request.method}`, async () => {
      const { log } = await originFetch(worker, request);
      await decisions(log[0].rid, 1);
    });
  }

  test("both audit trails join by the request's id, and no row is lost", async () => {
    const repeatable = { ...POST, headers: { "Idempotency-Key": "order-8" } };
    const visits = [["checkout", GET], ["checkout", POST], ["reports", GET], ["forger", GET], ["shimmed", GET]];
    const logs = [];
    for (const [worker, request] of visits) logs.push((await originFetch(worker, request)).log);
    stage.shim.cutNextReuse();
    logs.push((await originFetch("shimmed", repeatable)).log);
    const edge = logs.flat();
    assert.equal(edge.length, visits.length + 2, "one line for each sending");

    const proven = edge.filter((_, index) => visits[index]?.[0] !== "forger");
    for (const { rid } of proven) await decisions(rid, 1);
    const { rows, ours } = await stage.join(edge);
    assert.deepEqual(rows.flatMap((row) => row.edge).map(text).sort(), edge.map(text).sort());
    assert.deepEqual(rows.flatMap((row) => row.belay).map(text).sort(), ours.map(text).sort());
    const inBoth = (rid) => rows.filter((row) => row.rid === rid && row.edge.length > 0 && row.belay.length > 0);
    for (const { rid } of proven) assert.equal(inBoth(rid).length, 1, rid);
    const repeated = inBoth(edge.at(-1).rid)[0];
    assert.equal(repeated.edge.length, 2);
    assert.equal(repeated.belay.filter(({ event }) => event.action === "decision").length, 2);
  });

  // The last one: the old key, which the other Workers have, counts no more after it.
  test("a key is rotated under load, and no request fails", async () => {
    let worker = "checkout";
    let over = false;
    const seen = { checkout: 0, rotated: 0 };
    const visitors = [GET, POST, GET, POST].map(async (request) => {
      while (!over) {
        const via = worker;
        const { answer } = await originFetch(via, request);
        assert.equal(answer.status, 200, JSON.stringify(answer));
        seen[via] += 1;
      }
    });
    const load = Promise.all(visitors);
    const more = (via, count) => {
      const wanted = seen[via] + count;
      return Promise.race([load, eventually(`${count} answers more through ${via}`, async () => seen[via] >= wanted)]);
    };
    const quickly = ["--quiet-for", "1s"];

    await more("checkout", 20);
    const made = await stage.rotate("checkout", "--kid", "rotated-1", ...quickly);
    assert.equal(made.step, "made");
    assert.equal((await stage.rotate("checkout", ...quickly)).step, "waits_for_use");
    await more("checkout", 20);
    await stage.redeploy("checkout", made.worker_file, "rotated");
    worker = "rotated";
    await more("rotated", 20);
    assert.equal((await stage.rotate("checkout", ...quickly)).step, "switched");
    await more("rotated", 20);
    const revoked = async () => (await stage.rotate("checkout", ...quickly)).step === "revoked";
    await eventually("the old key's revocation", revoked);
    await more("rotated", 20);
    over = true;
    await load;
    // Who has not taken the new one up is refused, and is told why.
    const late = await originFetch("checkout", GET);
    assert.equal(late.answer.status, 401);
    assert.match(late.answer.headers["www-authenticate"], /error_description="unknown_key"/);
  });
});
