"""The equations of the paper, and those of papers that came later, each as a function.

| In the paper | Function |
|---|---|
| Conservation of :math:`W_{j+1}^T W_{j+1} - W_j W_j^T` | `dynamics.conserved_matrices` |
| The motion of the product matrix, for a balanced start | `dynamics.product_dynamics` |
| Lemma 1, the analytic singular value decomposition | `analytic_svd` |
| Theorem 3, the motion of the singular values | `dynamics.singular_value_rates` |
| Lemma 2, the motion of the singular vectors | `dynamics.singular_vector_rates` |
| Corollary 1, singular vectors at rest | `dynamics`, with `analytic_svd` along a trajectory |
| One measurement, aligned: linear, polynomial, asymptote | `one_measurement` |
| Theorems 1 and 2, commuting measurements; their end at finite starts | `commuting` |
| The solution of least trace that they lead to | `minimum_trace` |
| Proposition 1, no Schatten quasi-norm | `counterexamples` |

| After the paper, or ours | Function |
|---|---|
| Aligned modes in closed form (Saxe et al. 2014), incremental learning | `aligned_modes` |
| The transversal instability | `transversal` |
| Norms without bound (Razin and Cohen 2020) | `two_by_two`, `unobserved_entry` |
| Greedy low-rank learning (Li, Luo and Lyu 2021) | `greedy` |
| Tensor factorization (Razin, Maman and Cohen 2021) | `tensor` |
| Random measurements, spectral phase (Stöger and Soltanolkotabi 2021) | `symmetric_sensing` |
| Mirror maps of commuting parametrizations (Li, Wang, Lee and Arora 2022) | `mirror_flow` |
| Unbalanced starts in closed form (Braun et al. 2022, Dominé et al. 2025) | `lambda_balanced` |
| Small invariant subspaces (Yaras et al. 2023) | `invariant_subspace` |
| Flatness, the trace of the Hessian (Gatmiry et al. 2023) | `flatness` |
| Noise, weight decay and spectral steps (Wang and Jacot 2024, Kang et al. 2026) | `noisy_descent` |
| The volume of a fibre (Menon and Yu 2025) | `fibre` |

Chapters import its modules by name. It imports ``_support``, ``factorization``, ``problems`` and
``flow``.
"""
