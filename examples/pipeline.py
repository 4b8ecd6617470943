# %% [markdown]
# # Pipelines and searches of scikit-learn
#
# `HessianFreeClassifier` takes the place of `MLPClassifier`. Its settings can be searched like those of any other
# estimator, also within a pipeline.

# %%
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from hfnumba import HessianFreeClassifier

X, y = load_digits(n_class=5, return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)

# %% [markdown]
# A fit that ends with `max_iter` warns, as scikit-learn's do; the limit is high enough here. Features need no scaler:
# the estimator standardises them.

# %%
pipeline = make_pipeline(PCA(random_state=0), HessianFreeClassifier(max_iter=60, random_state=0))
grid = {
    "pca__n_components": [8, 24],
    "hessianfreeclassifier__hidden_layer_sizes": [(16,), (16, 16)],
}
search = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)

print("best settings:")
for name, value in search.best_params_.items():
    print(f"  {name.split('__')[1]}: {value}")
print(f"accuracy in the cross-validation {search.best_score_:.3f}, on the test rows {search.score(X_test, y_test):.3f}")

# %%
ranks = search.cv_results_["rank_test_score"].argsort()
print("rank  accuracy  settings")
for k in ranks[:4]:
    settings = ", ".join(str(value) for value in search.cv_results_["params"][k].values())
    print(
        f"{search.cv_results_['rank_test_score'][k]:4}  {search.cv_results_['mean_test_score'][k]:.3f}     {settings}"
    )

# %%
print(classification_report(y_test, search.predict(X_test), digits=3))
