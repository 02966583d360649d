"""The report's glossary: each term as this report computes it, with its source. Plain data."""

from __future__ import annotations

from rankscope.report.rows import Method

METHODS = (
    Method(
        "Gain",
        "In-domain score of the arm minus the base's, item by item.",
        "paired differences: Miller, arXiv 2411.00640",
    ),
    Method(
        "Points forgotten",
        "Base minus arm on the retention tasks, item by item, averaged over tasks with equal weight. "
        "Positive means worse.",
        "after Biderman et al., arXiv 2405.09673",
    ),
    Method(
        "Retention",
        "(score - chance) / (base - chance), pooled over retention tasks; 100 % is what the base could do. Tasks "
        "whose base is not shown above chance are left out.",
        "rankscope",
    ),
    Method(
        "Score of the base",
        "One model: Wilson's 95 % interval over items for right or wrong answers; t for graded or clustered ones.",
        "Wilson 1927",
    ),
    Method("Chance", "The larger of the uniform guess and the most frequent answer's share.", "rankscope"),
    Method(
        "CE rise",
        "Rise of the mean cross-entropy on neutral text, in nats per token. Lower cross-entropy is better.",
        "after the PEFT method comparison",
    ),
    Method(
        "95 % interval",
        "Of one mean difference, from two-way crossed variance components: items and seeds both vary, and the "
        "same items are seen by every seed. Two or three seeds of one arm say little about how seeds vary, so the arms "
        "of one train task share what they say on a task; an arm that varies more keeps its own. With one seed it "
        "speaks for this seed only.",
        "Searle, Casella and McCulloch 1992; degrees of freedom: Cochran 1964, Satterthwaite 1946; clustered items: "
        "Miller, arXiv 2411.00640",
    ),
    Method(
        "Few flips",
        "That hardly any answer changed from right to wrong is no proof that none would: an interval reaches as far as "
        "the exact limit of the share of changed answers leaves open. Without any, that is 3.7 / items for an ordinary "
        "interval (rule of three), and more for a simultaneous one.",
        "Clopper and Pearson 1934; Hanley and Lippman-Hand 1983",
    ),
    Method(
        "Simultaneous interval",
        "Wide enough that all comparisons of this study's family hold together at 95 % (max-|t|). "
        "Verdict words read this interval only.",
        "Hothorn, Bretz and Westfall 2008",
    ),
    Method(
        "Verdict words",
        "With margin m: 'within the margin' if the simultaneous interval lies inside (-m, m), and this comes "
        "first; 'better' or 'worse' if it excludes 0; else 'undecided', with the effect that would have been "
        "seen with 80 % power.",
        "equivalence: Schuirmann 1987",
    ),
    Method(
        "Shown retained",
        "The simultaneous interval of the pooled difference on retention tasks lies above -m (non-inferiority) and no "
        "single task is shown worse, nor cross-entropy on neutral text beyond m nats. 'Forgot': one of the tasks, or "
        "the pool, is shown worse. Else it is 'not shown to be retained', however small the loss looks. Where only "
        "cross-entropy was measured, it alone decides, with m in nats.",
        "rankscope",
    ),
    Method(
        "What would decide",
        "How many items in all (seeds as they are), or seeds (items as they are), would give a verdict with 80 % power "
        "if the difference seen is the true one. With one seed nothing is known of seeds.",
        "rankscope; variance parts as in the intervals",
    ),
    Method(
        "Recommended range",
        "The ranks that can't be excluded as the best in domain, by multiple comparisons with the best, among the arms "
        "whose retention allows it: those shown retained; if none is, all but those shown to keep less than the arm "
        "that keeps most, by more than the margin. Inside it the cheapest arm shown within the margin of the best (or "
        "what the study prefers), else the best one seen.",
        "Hsu 1984",
    ),
    Method(
        "Matched gain",
        "Forgetting of each arm where all have gained equally much: read off straight lines between its points at all "
        "learning rates, first seed. Percentile bootstrap over items.",
        "rankscope; Efron 1979",
    ),
    Method(
        "KL to the base",
        "KL(base || arm) over the whole vocabulary, mean over positions, in nats per token: on rows like the training "
        "rows, kept out of them, where the answer stands, and on neutral text.",
        "Shenfeld et al., arXiv 2509.04259",
    ),
    Method(
        "Noise floor",
        "The base scored twice with other batches. Sums in floating point differ; a difference that small means "
        "nothing.",
        "rankscope",
    ),
    Method(
        "Transfer",
        "Score on another task after training minus the base's. Marked only where the simultaneous interval excludes "
        "0; an alarm is a drop whose whole simultaneous interval lies beyond 10 points (evaluate.alarm).",
        "after arXiv 2512.15634",
    ),
    Method(
        "Learning rate",
        "Chosen per arm by validation loss on a split carved from train, never from items of a verdict, with the "
        "one-standard-error rule toward the lower rate.",
        "one-standard-error rule: Breiman et al. 1984",
    ),
    Method(
        "Flips",
        "Items right before and wrong after (lost), and the reverse (won), counted over seeds. "
        "McNemar's exact p, shown for one seed, weighs the two counts.",
        "McNemar 1947",
    ),
    Method(
        "Repeated, other answer",
        "Training rows whose prompt and answer an earlier row has; rows whose prompt also stands with another answer.",
        "rankscope",
    ),
    Method(
        "Words in a row",
        "Test items whose prompt and right answer have a run of 13 words of some training row, in lower case without "
        "punctuation. An item of fewer words counts as a whole. What more than half of the training rows say is the "
        "prompts' frame and doesn't count.",
        "n-grams of Brown et al., arXiv 2005.14165, appendix C",
    ),
    Method(
        "Same prompt",
        "Test items with the prompt of a training row, in lower case without punctuation and white space; and with "
        "every number read as the same (templates). Without few-shot examples.",
        "templates: MathQA, arXiv 1905.13319",
    ),
    Method(
        "Relative change",
        "||dW||_F / ||W||_F over the adapted matrices together: of a layer, of a kind of module, or of all.",
        "rankscope",
    ),
    Method(
        "Stable rank",
        "Sum of the squared singular values of dW over the square of the largest. Utilisation: the same divided by the "
        "rank given.",
        "Rudelson and Vershynin 2007",
    ),
    Method(
        "Effective rank",
        "exp of the entropy of the singular values as shares of their sum.",
        "Roy and Vetterli 2007",
    ),
    Method(
        "Energy rank",
        "Least number of singular values that hold 90 or 99 % of the squared ||dW||_F.",
        "after Eckart and Young 1936",
    ),
    Method(
        "Intruder",
        "Among the top 10 left singular vectors of W + dW one whose largest absolute cosine with all of W's is below "
        "0.5.",
        "Shuttleworth et al., arXiv 2410.21228",
    ),
    Method(
        "Interference",
        "Share of the squared ||dW||_F that lies in the top singular subspaces of W.",
        "after OPLoRA, arXiv 2510.13003",
    ),
    Method(
        "CKA distance",
        "1 minus linear CKA (debiased) of base and tuned hidden states on the same prompts, position 0 left out. A "
        "rotation of the hidden states does not change it.",
        "Kornblith et al., arXiv 1905.00414",
    ),
    Method(
        "Attention JS",
        "Jensen-Shannon divergence between the attention rows of base and tuned, mean over rows and heads.",
        "Lin 1991",
    ),
    Method(
        "What a part carries",
        "Score with the whole update minus without a block of layers or kind of module; and with it alone minus the "
        "base; paired by item. The two don't add up to the whole: no shares.",
        "rankscope",
    ),
    Method(
        "Truncation curve",
        "Score of the best rank-k approximation of a trained update, beside arms trained at rank k, on the same items.",
        "Eckart and Young 1936",
    ),
    Method(
        "Over seeds",
        "Of one number a run: mean with Student's t interval over seeds; several arms of one claim hold together by "
        "Bonferroni. One seed has no interval.",
        "Dunn 1961",
    ),
    Method(
        "rho",
        "Rank correlation over runs; its p over arms, by permutation. Exploratory: nothing is concluded from it.",
        "Spearman 1904",
    ),
    Method(
        "LoRA",
        "A frozen weight plus a product of two thin matrices of rank r, scaled by alpha / r.",
        "Hu et al., arXiv 2106.09685",
    ),
)
