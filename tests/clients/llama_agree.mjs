// Run by llama_agree.sh in a directory with node_modules: KVLM MODEL TASKS.
import {execFileSync} from "node:child_process";
import {readFileSync, statSync, writeFileSync} from "node:fs";
import process from "node:process";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [kvlm, modelPath, tasks] = process.argv.slice(2);
const CONTEXTS = 2;      // of each text suite, for the next tokens
const AGREE = 0.995;
const CONTINUE = 48;     // tokens of a continuation
let failed = 0;

function check(ok, what) {
    console.log(`${ok ? "ok" : "FAIL"}: ${what}`);
    failed += !ok;
}

function suite(name) {
    const contexts = [];
    for (const line of readFileSync(`${tasks}/${name}.txt`, "utf8").split("\n")) {
        const w = line.split(" ");
        if (w[0] === "context")
            contexts.push({tokens: w.slice(4).map(Number), queries: []});
        else if (w[0] === "query")
            contexts.at(-1).queries.push(w.slice(4).map(Number));
    }
    return contexts;
}

function idsFile(name, ids) {
    writeFileSync(name, ids.join(" "));
    return name;
}

function run(...args) {
    return execFileSync(kvlm, args, {encoding: "utf8", stdio: ["ignore", "pipe", "pipe"]});
}

const ids = (text) => text.trim().split(/\s+/).map(Number);

async function greedy(seq, prompt, n) {
    const out = [];
    for await (const t of seq.evaluate(prompt, {temperature: 0})) {
        out.push(t);
        if (out.length === n)
            break;
    }
    return out;
}

// top-1 of every position
async function nextTokens(seq, contexts) {
    let same = 0, all = 0;
    const prompt = idsFile("next.ids", []);
    for (const c of contexts) {
        await seq.clearHistory();
        const res = await seq.controlledEvaluate(
            c.tokens.map((t) => [t, {generateNext: {token: true, options: {temperature: 0}}}]));
        idsFile(prompt, c.tokens);
        const ours = ids(run("prefill", modelPath, "--ids", "--prompt", prompt, "--next", "--dtype", "f16"));
        res.forEach((r, i) => {
            all++;
            same += r.next.token === ours[i];
        });
    }
    check(all >= 2000 && same >= AGREE * all,
        `next tokens agree at ${same} of ${all} positions (${(100 * same / all).toFixed(2)} %)`);
}

// a state saved by llama.cpp continues in kvlm as in llama.cpp
async function theirState(seq, c, label) {
    await seq.clearHistory();
    await seq.evaluateWithoutGeneratingNewTokens(c.tokens);
    await seq.saveStateToFile("theirs.bin");
    const theirs = await greedy(seq, c.queries[0], CONTINUE);
    const ours = ids(run("generate", modelPath, "--load", "theirs.bin", "--ids", "--prompt",
        idsFile("query.ids", c.queries[0]), "-n", String(CONTINUE), "--ignore-eos", "--print-ids"));
    check(ours.join() === theirs.join(), `llama.cpp's ${label} state continues the same in kvlm`);
}

// a state saved by kvlm continues in llama.cpp as in kvlm
async function ourState(seq, c, dtype) {
    run("prefill", modelPath, "--ids", "--prompt", idsFile("context.ids", c.tokens),
        "--save", "ours.bin", "--dtype", dtype);
    const ours = ids(run("generate", modelPath, "--load", "ours.bin", "--ids", "--prompt",
        idsFile("query.ids", c.queries[0]), "-n", String(CONTINUE), "--ignore-eos", "--print-ids"));
    await seq.clearHistory();
    await seq.loadStateFromFile("ours.bin", {acceptRisk: true});
    check(seq.contextTokens.join() === c.tokens.join(), `llama.cpp loads kvlm's ${dtype} state`);
    const theirs = await greedy(seq, c.queries[0], CONTINUE);
    // saved again by llama.cpp without a change: the same file
    await seq.clearHistory();
    await seq.loadStateFromFile("ours.bin", {acceptRisk: true});
    await seq.saveStateToFile("again.bin");
    check(readFileSync("ours.bin").equals(readFileSync("again.bin")),
        `llama.cpp writes kvlm's ${dtype} state back byte for byte (${statSync("ours.bin").size})`);
    check(ours.join() === theirs.join(), `kvlm's ${dtype} state continues the same in llama.cpp`);
}

// a state that lost tokens is loaded, and goes on, as in kvlm
async function thinState(seq, c, dtype) {
    run("quant", "ours.bin", "--heads", "2", "--method", "keydiff:0.5", "--save", "thin.bin");
    const ours = ids(run("generate", modelPath, "--load", "thin.bin", "--ids", "--prompt",
        idsFile("query.ids", c.queries[0]), "-n", String(CONTINUE), "--ignore-eos", "--print-ids"));
    await seq.clearHistory();
    await seq.loadStateFromFile("thin.bin", {acceptRisk: true});
    const theirs = await greedy(seq, c.queries[0], CONTINUE);
    check(ours.join() === theirs.join(), `a ${dtype} state without half of its tokens continues the same`);
}

const llama = await getLlama({gpu: false, build: "never", progressLogs: false,
    logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath, checkTensors: true});
const texts = [...suite("text").slice(0, CONTEXTS), ...suite("code").slice(0, CONTEXTS)];

for (const [type, flash] of [["F16", true], ["F16", false], ["BF16", true], ["F32", true]]) {
    const ctx = await model.createContext({contextSize: 2048, threads: 1, flashAttention: flash,
        experimentalKvCacheKeyType: type, experimentalKvCacheValueType: type});
    const seq = ctx.getSequence();
    const label = `${type.toLowerCase()}${flash ? "" : " transposed"}`;
    if (type === "F16" && flash)
        await nextTokens(seq, texts);
    await theirState(seq, texts[0], label);
    if (flash) {
        await ourState(seq, texts[0], type.toLowerCase());
        await thinState(seq, texts[0], type.toLowerCase());
    }
    await ctx.dispose();
}
await llama.dispose();
process.exit(failed ? 1 : 0);
